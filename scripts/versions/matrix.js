/** The supported versions of Node and PostgreSQL, oldest first. `engines` of the packages and ci.yml agree with them, by a test. */
export const supportedNode = ['20.19', '22', '24'];
export const supportedPostgres = ['14', '15', '16', '17', '18'];

/** @typedef {{ readonly node: string, readonly postgres: string }} VersionPair */

/**
 * Each Node with the newest PostgreSQL, and each PostgreSQL with the oldest Node.
 *
 * @param {readonly string[]} nodes oldest first
 * @param {readonly string[]} databases oldest first
 * @returns {VersionPair[]}
 */
export function pairVersions(nodes, databases) {
  const [oldest = '', ...newer] = nodes;
  const newest = databases.at(-1) ?? '';
  return [
    ...databases.map((postgres) => ({ node: oldest, postgres })),
    ...newer.map((node) => ({ node, postgres: newest })),
  ];
}

/** Tests that depend on PostgreSQL: reads, resume, install, rights, writes. */
const onPostgres = [
  'no-loss',
  'log-reader',
  'log-crash',
  'view',
  'overlap',
  'wake',
  'resume',
  'missed-memory',
  'snapshot',
  'install',
  'install-tables',
  'install-upgrade',
  'doctor',
  'authorize-query',
  'approvals-feed',
]
  .map((name) => `packages/server/test/${name}.test.ts`)
  .concat(
    ['rest-writes', 'rest-approvals', 'rest-audit'].map(
      (name) => `packages/console/test/server/${name}.test.ts`,
    ),
  );

/** Tests that depend on Node: sockets, streams, processes, signals, modules. */
const onNode = [
  ...['plain-dialect', 'v1-channels', 'v1-events', 'event-stream', 'slow-connection', 'drain', 'embedding'],
  ...['serve', 'workers', 'cli', 'tail', 'unit/access-keys', 'http-hostile'],
  ...['socket-writer', 'socket-writer-choice'],
]
  .map((name) => `packages/server/test/${name}.test.ts`)
  .concat(
    ['unit/client', 'real-server', 'unit/streams', 'unit/tabs-state'].map(
      (name) => `packages/client/test/${name}.test.ts`,
    ),
  )
  .concat('packages/console/test/server/console-files.test.ts', 'e2e/packages.test.ts');

/**
 * The tests whose result may depend on this pair of supported versions. Those of `pairVersions` divide them.
 *
 * @param {VersionPair} pair
 */
export function testsOf({ node, postgres }) {
  const tests = [
    ...(postgres === supportedPostgres.at(-1) ? onNode : []),
    ...(node === supportedNode[0] ? onPostgres : []),
  ];
  return tests.length > 0 ? tests : [...onNode, ...onPostgres];
}

/**
 * Whether a version is the named one or one of its line: 20.19.3 is of 20.19 and of 20.
 *
 * @param {string} version
 * @param {string} line
 */
export function isOfLine(version, line) {
  return `${version}.`.startsWith(`${line}.`);
}
