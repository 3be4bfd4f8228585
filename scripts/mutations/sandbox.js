import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';

/** Time limit for the tests of a mutation, in milliseconds; a mutation that makes them hang counts as caught. */
const testsLimitMs = 600_000;

/**
 * @typedef {{ status: string; fullName: string; failureMessages: string[] }} TestResult
 *
 * @typedef {object} Outcome
 * @property {boolean} passed
 * @property {string} firstFailure name and message of the first failed test, or the error of the run
 */

/** A copy of the repository in which mutations are applied. */
export class Sandbox {
  /** @readonly */
  folder;
  #signal;

  /**
   * @param {string} folder
   * @param {AbortSignal} signal
   */
  constructor(folder, signal) {
    this.folder = folder;
    this.#signal = signal;
  }

  /**
   * Copies the repository at `root` including uncommitted changes, and builds it. `signal` ends its current and later commands.
   *
   * @param {string} root
   * @param {AbortSignal} signal
   * @returns {Promise<Sandbox>}
   */
  static async create(root, signal) {
    const sandbox = new Sandbox(await mkdtemp(path.join(tmpdir(), 'flagcast-mutations-')), signal);
    try {
      const { output: files } = await run(
        'git',
        ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        root,
        signal,
      );
      for (const file of files.split('\0').filter((name) => name !== '')) {
        await cp(path.join(root, file), sandbox.path(file), { recursive: true });
      }
      await linkModules(path.join(root, 'node_modules'), sandbox.path('node_modules'));
      const { code, output } = await run('npm', ['run', '--silent', 'build'], sandbox.folder, signal);
      if (code !== 0) throw new Error(`The unchanged code does not build:\n${output}`);
      return sandbox;
    } catch (error) {
      await sandbox.remove();
      throw error;
    }
  }

  /** @param {string} file */
  path(file) {
    return path.join(this.folder, file);
  }

  /** @param {string} file */
  async read(file) {
    return await readFile(this.path(file), 'utf8');
  }

  /**
   * @param {string} file
   * @param {string} content
   */
  async write(file, content) {
    await writeFile(this.path(file), content);
  }

  /** Compiles the changed files. Returns the output of the compiler if it fails, otherwise null. */
  async compile() {
    const { code, output } = await run(
      'npx',
      ['tsc', '--build', 'tsconfig.build.json'],
      this.folder,
      this.#signal,
    );
    return code === 0 ? null : output.trim();
  }

  /**
   * Runs the test files until a test fails twice.
   *
   * @param {readonly string[]} files
   * @param {number} testLimitMs time-out of a test
   * @returns {Promise<Outcome>}
   */
  async runTests(files, testLimitMs) {
    const report = this.path('mutation-report.json');
    await rm(report, { force: true });
    // A test that fails only once (on a busy machine) does not count.
    const reporting = [
      '--retry=1',
      '--bail=1',
      '--reporter=json',
      `--outputFile=${report}`,
      `--testTimeout=${testLimitMs}`,
    ];
    const { code, output } = await run(
      'npx',
      ['vitest', 'run', ...reporting, ...files],
      this.folder,
      this.#signal,
      testsLimitMs,
    );
    if (code === 0) return { passed: true, firstFailure: '' };
    if (code === null) return { passed: false, firstFailure: 'the tests did not end' };
    return {
      passed: false,
      firstFailure: (await firstFailureOf(report)) ?? (output.trim() || 'no test ran'),
    };
  }

  async remove() {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/**
 * Links the packages of the workspace to the copy, and all others to their installation.
 *
 * @param {string} from
 * @param {string} to
 */
async function linkModules(from, to) {
  await mkdir(to);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)];
    if (entry.isSymbolicLink() || entry.name === '@flagcast') {
      await cp(source, target, { recursive: true, verbatimSymlinks: true });
    } else if (!entry.name.startsWith('.vit')) {
      await symlink(source, target);
    }
  }
}

/** @param {string} report */
async function firstFailureOf(report) {
  try {
    const json = /** @type {unknown} */ (JSON.parse(await readFile(report, 'utf8')));
    const { testResults } = /** @type {{ testResults: { assertionResults: TestResult[] }[] }} */ (json);
    const failed = testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .find(({ status }) => status === 'failed');
    if (failed === undefined) return null;
    const [message = ''] = (failed.failureMessages[0] ?? '').split('\n', 1);
    return `${failed.fullName}: ${message}`;
  } catch {
    return null;
  }
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {string} folder
 * @param {AbortSignal} signal
 * @param {number} [limitMs]
 * @returns {Promise<{ code: number | null; output: string }>} `code` is null after the time limit
 */
async function run(command, args, folder, signal, limitMs) {
  signal.throwIfAborted();
  // A new process group, so that its child processes are ended as well.
  const child = spawn(command, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const end = () => process.kill(-(child.pid ?? 0), 'SIGTERM');
  const timer = limitMs === undefined ? undefined : setTimeout(end, limitMs);
  signal.addEventListener('abort', end);
  const exited = /** @type {Promise<[number | null]>} */ (once(child, 'exit'));
  const [[code], out, problems] = await Promise.all([exited, text(child.stdout), text(child.stderr)]);
  clearTimeout(timer);
  signal.removeEventListener('abort', end);
  signal.throwIfAborted();
  return { code, output: code === 0 ? out : out + problems };
}
