/**
 * The layers of packages/server/src: a folder imports only from folders further up this list. Data flows from the first
 * ones to the last ones; ARCHITECTURE.md says what each is for. `cli` also imports the composition root, flagcast.ts.
 */
const layers = [
  'events',
  'postgres',
  'host',
  'auth',
  'reader',
  'broadcast',
  'replay',
  'connections',
  'transport',
  'api',
  'operations',
  'install',
  'cli',
];
/** Files that every folder may import. They import nothing from the folders, except the redaction of tokens. */
const shared = ['describe', 'http-problem', 'lifecycle', 'retry'];

/** The folders of testing/. */
const harnesses = ['bench', 'chaos', 'fuzz', 'mutations', 'testkit'];

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...layers.slice(0, -1).map((layer, index) => ({
      name: `${layer}-imports-upward`,
      comment: 'Imports between folders point one way, also imports of types.',
      severity: 'error',
      from: { path: `^packages/server/src/${layer}/` },
      to: {
        path: `^packages/server/src/(${[...layers.slice(index + 1), '[^/]+[.]ts$'].join('|')})`,
        pathNot: `^packages/server/src/(${shared.join('|')})[.]ts$`,
      },
    })),
    {
      name: 'server-imports-its-console',
      comment: 'The server gets the console as an option. The console uses what `flagcast/support` exports.',
      severity: 'error',
      from: { path: '^packages/(server/src|console/server)/' },
      to: { path: '^packages/(server|console)/', pathNot: '^packages/$1/', dependencyTypes: ['local'] },
    },
    ...harnesses.map((harness) => ({
      name: `${harness}-imports-another-harness`,
      comment: 'What harnesses share is in testing/testkit, which imports none of them.',
      severity: 'error',
      from: { path: `^testing/${harness}/` },
      to: { path: `^testing/(?!${harness}/|testkit/)` },
    })),
    {
      name: 'testing-imports-private-modules',
      comment: 'Harnesses use what the packages export.',
      severity: 'error',
      from: { path: '^testing/(bench|chaos|testkit)/' },
      to: { path: '^packages/[^/]+/(dist|src)/', dependencyTypes: ['local'] },
    },
  ],
  options: {
    // Finds imports of types, too. TypeScript 7 has no interface for programs, so swc parses.
    parser: 'swc',
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
};
