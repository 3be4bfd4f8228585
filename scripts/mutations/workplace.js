import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';

/** How long the tests of one mutation may take, in milliseconds; one that makes them hang counts as noticed. */
const testsLimitMs = 600_000;

/**
 * @typedef {{ status: string; fullName: string; failureMessages: string[] }} TestResult
 *
 * @typedef {object} Outcome
 * @property {boolean} passed
 * @property {string} firstFailure the name of the first test that failed, and why; what happened where none did
 */

/** A copy of the tracked files of a repository, where code can be broken without harm. */
export class Workplace {
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
   * Copies the repository at `root` as it is now, with uncommitted changes, and builds it. `signal` ends what
   * runs in it, and everything that is begun later.
   *
   * @param {string} root
   * @param {AbortSignal} signal
   * @returns {Promise<Workplace>}
   */
  static async create(root, signal) {
    const place = new Workplace(await mkdtemp(path.join(tmpdir(), 'flagcast-mutations-')), signal);
    try {
      const { said: files } = await run(
        'git',
        ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        root,
        signal,
      );
      for (const file of files.split('\0').filter((name) => name !== '')) {
        await cp(path.join(root, file), place.path(file), { recursive: true });
      }
      await linkModules(path.join(root, 'node_modules'), place.path('node_modules'));
      const { code, said } = await run('npm', ['run', '--silent', 'build'], place.folder, signal);
      if (code !== 0) throw new Error(`the code does not build as it is:\n${said}`);
      return place;
    } catch (error) {
      await place.remove();
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

  /** Compiles what has changed; what the compiler says when it does not. */
  async compile() {
    const { code, said } = await run(
      'npx',
      ['tsc', '--build', 'tsconfig.build.json'],
      this.folder,
      this.#signal,
    );
    return code === 0 ? null : said.trim();
  }

  /**
   * Runs these test files until the first test that fails twice.
   *
   * @param {readonly string[]} files
   * @param {number} testLimitMs how long one test may take
   * @returns {Promise<Outcome>}
   */
  async runTests(files, testLimitMs) {
    const report = this.path('mutation-report.json');
    await rm(report, { force: true });
    // What fails once on a busy machine and then passes has noticed nothing.
    const reporting = [
      '--retry=1',
      '--bail=1',
      '--reporter=json',
      `--outputFile=${report}`,
      `--testTimeout=${testLimitMs}`,
    ];
    const { code, said } = await run(
      'npx',
      ['vitest', 'run', ...reporting, ...files],
      this.folder,
      this.#signal,
      testsLimitMs,
    );
    if (code === 0) return { passed: true, firstFailure: '' };
    if (code === null) return { passed: false, firstFailure: 'the tests did not end' };
    return { passed: false, firstFailure: (await firstFailureOf(report)) ?? (said.trim() || 'no test ran') };
  }

  async remove() {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/**
 * The packages of the workspace are linked to the copy, all others to where they are installed.
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
    const [why = ''] = (failed.failureMessages[0] ?? '').split('\n', 1);
    return `${failed.fullName}: ${why}`;
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
 * @returns {Promise<{ code: number | null; said: string }>} `code` is null when it was ended for taking too long
 */
async function run(command, args, folder, signal, limitMs) {
  signal.throwIfAborted();
  // A group of its own, so that what it has started ends with it.
  const child = spawn(command, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const end = () => process.kill(-(child.pid ?? 0), 'SIGTERM');
  const timer = limitMs === undefined ? undefined : setTimeout(end, limitMs);
  signal.addEventListener('abort', end);
  const exited = /** @type {Promise<[number | null]>} */ (once(child, 'exit'));
  const [[code], out, problems] = await Promise.all([exited, text(child.stdout), text(child.stderr)]);
  clearTimeout(timer);
  signal.removeEventListener('abort', end);
  signal.throwIfAborted();
  return { code, said: code === 0 ? out : out + problems };
}
