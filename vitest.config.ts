import { totalmem } from 'node:os';
import path from 'node:path';
import { defaultServerConditions } from 'vite';
import { defineConfig } from 'vitest/config';
import {
  BaseSequencer,
  type Reporter,
  type TestModule,
  type TestSpecification,
  type Vite,
  type Vitest,
} from 'vitest/node';

// Where CI wants the counts; a terminal only gets the usual output.
const report = process.env['FLAGCAST_TEST_REPORT'];

const root = import.meta.dirname;

/** The tests with databases, browsers and processes that take longest: begun last they would run alone in the end. */
const longest = [
  'serve',
  'api',
  'audit-search',
  'chaos',
  'tail-resume',
  'packages',
  'bench',
  'accessibility',
  'togglr',
  'shared-session',
  'connection-loss',
  'doctor',
  'cli',
  'workers',
  'embedded-faults',
  'install-repair',
  'request-limits',
  'proxies',
  'snapshot',
  'dev',
  'keyboard',
  'navigation',
  'activity',
  'many-flags',
  'requests',
  'examples',
  'base-path',
  'field-cases-size',
  'resume-storm',
  'rest-sign-in',
  'tail',
  'install-upgrade',
  'resume',
  'overlap',
  'demo',
  'resume-random',
  'relay-takeover',
  'slow-connection',
  'doctor-command',
  'real-server',
  'nats-relay',
  'embedded',
  'freshness',
  'v1-slow-connection',
  'togglr-host',
  'v1-channels',
  'feature-lists',
  'relay-history',
  'traces',
  'replica',
  'majors',
  'event-stream',
  'no-home',
  'no-loss',
  'authorization-matrix',
  'locked-table',
  'drain',
  'attach',
  'delivery',
  'doctor-log',
  'handshake',
  'connection-monitor',
  'install-host-changes',
  'relay-tls',
  'other-schemas',
  'v1-events',
  'wake',
  'fuzz',
];

/** The file of `unit` whose first line asks for a page. One file: each worker with a page loads a DOM and React. */
const pageTest = 'packages/client/test/unit/react.test.tsx';

/**
 * A worker ends when the next file of the queue is of another project or environment: its modules would be loaded again. So
 * the files of one kind follow each other, the longest first.
 */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const names = sorted.map(({ project }) => project.name);
    const kind = ({ project, moduleId }: TestSpecification): number =>
      2 * names.indexOf(project.name) + Number(path.relative(root, moduleId) !== pageTest);
    const rank = ({ moduleId }: TestSpecification): number => {
      const index = longest.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return index === -1 ? longest.length : index;
    };
    return sorted.sort((one, other) => kind(one) - kind(other) || rank(one) - rank(other));
  }
}

/** Lists the tests that were skipped, because a program is missing here. */
class SkippedTests implements Reporter {
  #isFiltered = false;

  onInit({ config }: Vitest): void {
    this.#isFiltered = config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    if (this.#isFiltered) return;
    const skipped = modules.flatMap(({ children, relativeModuleId }) =>
      [...children.allTests('skipped')].map(({ fullName }) => `  ${relativeModuleId} > ${fullName}`),
    );
    if (skipped.length > 0) process.stdout.write(`\nSkipped tests:\n${skipped.join('\n')}\n`);
  }
}

/** The packages import each other's sources, so that tests need no build. `module` is a condition of bundlers only. */
const conditions = ['@flagcast/source', ...defaultServerConditions.filter((name) => name !== 'module')];

/** Tests of single modules: they need no PostgreSQL and no build. */
const unitTests = ['packages/*/test/unit/**/*.test.{ts,tsx}', 'packages/console/test/*.test.ts'];
/** The console in happy-dom, with the real client and a scripted server. */
const consoleTests = ['packages/console/test/*.test.tsx'];

/**
 * More than two processors for the tests that wait for databases, browsers and processes, most of the time; the others
 * compute. A number in the config of the projects would override `--maxWorkers`.
 */
const workers: Vite.Plugin = {
  name: 'workers',
  configureVitest: ({ vitest, project }) => {
    if (vitest.config.maxWorkers) return;
    // Each has its modules, and a Chromium: two gigabytes.
    const fitting = Math.max(2, Math.min(6, Math.floor(totalmem() / 2e9)));
    project.config.maxWorkers = project.name === 'integration' ? fitting : 2;
  },
};

export default defineConfig({
  plugins: [workers],
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    reporters: ['default', new SkippedTests(), ...(report === undefined ? [] : ['json'])],
    ...(report === undefined ? {} : { outputFile: report }),
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: unitTests,
          // Transforming the same files again takes a seventh of a run. After a change from .ts to .tsx: --clearCache.
          experimental: { fsModuleCache: true },
        },
      },
      {
        extends: true,
        // The React of production, as in a browser: that of development takes three times as long.
        oxc: { jsx: { runtime: 'automatic', development: false } },
        test: {
          name: 'console',
          include: consoleTests,
          setupFiles: ['packages/console/test/fixture/page.setup.tsx'],
          environment: 'happy-dom',
          env: { NODE_ENV: 'production' },
        },
      },
      {
        extends: true,
        // Of the example for Nest.
        oxc: { decorator: { legacy: true } },
        test: {
          name: 'integration',
          // After the others: groups of different numbers of workers run one after another.
          sequence: { groupOrder: 1 },
          include: ['packages/*/test/**/*.test.{ts,tsx}', 'e2e/**/*.test.ts'],
          exclude: [
            ...[...unitTests, ...consoleTests],
            // Run by `npm run examples:next`: it downloads more than a hundred megabytes.
            ...(process.env['FLAGCAST_NEXT'] === undefined ? ['e2e/next.test.ts'] : []),
          ],
          globalSetup: ['packages/server/test/cluster.setup.ts'],
          // More workers than processors: threads that help to collect garbage only take the time of other workers.
          execArgv: ['--single-threaded-gc'],
        },
      },
    ],
    // Mantine reports, with a dump of the whole page, that a menu without layout has nothing to focus.
    onConsoleLog: (text) => !text.includes('[@mantine/hooks/use-focus-trap]'),
    // Real databases and real processes: slow machines get time, hangs still end.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // A poll ends when its condition is met: the default of one second is too short for a busy machine.
    expect: { poll: { timeout: 60_000 } },
    // Modules have no state, so test files share them: loading them for each file took a quarter of the time.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    // Code that runs in a process of its own (`flagcast serve`, workers) is not counted.
    coverage: {
      include: ['packages/*/src/**', 'packages/console/server/**'],
      reporter: ['text-summary', 'html', 'json-summary'],
    },
  },
});
