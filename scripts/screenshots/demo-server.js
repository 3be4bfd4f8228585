import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { runSql } from '../demo-sql.js';

const command = fileURLToPath(new URL('../../packages/server/bin/flagcast.js', import.meta.url));

/** The fields of a feature that the screenshots need.
 * @typedef {{ id: string, key: string, version: string, enabled: boolean, default_value: string }} Feature */

/** The demo on a free port with a temporary data folder. */
export class DemoServer {
  /** @type {import('node:child_process').ChildProcess} */
  #process;
  /** @type {string} */
  #dataDir;
  /** @type {Map<string, string>} */
  #tokens = new Map();
  /** @type {string} */
  url;

  /**
   * @param {import('node:child_process').ChildProcess} process
   * @param {string} dataDir
   * @param {string} url
   */
  constructor(process, dataDir, url) {
    this.#process = process;
    this.#dataDir = dataDir;
    this.url = url;
  }

  static async start() {
    const dataDir = await mkdtemp(join(tmpdir(), 'flagcast-pictures-'));
    // If this process runs as root, PostgreSQL runs as another account.
    await chmod(dataDir, 0o755);
    const server = spawn(process.execPath, [command, 'serve', '--port', '0'], {
      env: { ...process.env, FLAGCAST_DATA_DIR: dataDir },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    /** @type {string | null} */
    let url = null;
    /** @type {AsyncIterable<string>} */
    const lines = createInterface({ input: server.stdout });
    for await (const line of lines) {
      const [, event] = /"event":"(\w+)"/.exec(line) ?? [];
      if (event === 'server_listening') url = /"url":"([^"]+)"/.exec(line)?.[1] ?? null;
      if (event === 'reader_started') break;
    }
    server.stdout.resume();
    if (url === null) throw new Error('The demo did not start; see its log above');
    return new DemoServer(server, dataDir, url);
  }

  /** @param {string} username */
  async signIn(username) {
    const known = this.#tokens.get(username);
    if (known !== undefined) return known;
    const body = { username, password: `${username}-demo` };
    const { token } = /** @type {{ token: string }} */ (
      await this.#send('POST', '/api/auth/login', null, body)
    );
    this.#tokens.set(username, token);
    return token;
  }

  /**
   * Sends an API request as the user.
   * @param {string} username
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   */
  async request(username, method, path, body) {
    return await this.#send(method, path, await this.signIn(username), body);
  }

  /**
   * @param {string} projectId
   * @param {string} env
   * @returns {Promise<Feature[]>}
   */
  async features(projectId, env) {
    const query = new URLSearchParams({ project_id: projectId, env }).toString();
    const { features } = /** @type {{ features: Feature[] }} */ (
      await this.request('root', 'GET', `/api/features?${query}`)
    );
    return features;
  }

  /**
   * Changes a flag; with a `reason` creates a request in a guarded environment.
   * @param {string} username
   * @param {string} projectId
   * @param {string} env
   * @param {string} key
   * @param {(feature: Feature) => object} change
   */
  async change(username, projectId, env, key, change) {
    const feature = (await this.features(projectId, env)).find((each) => each.key === key);
    if (feature === undefined) throw new Error(`The demo has no flag ${key}`);
    const { id, version } = feature;
    await this.request(username, 'PATCH', `/api/features/${id}`, { env, version, ...change(feature) });
  }

  /**
   * Cancels the open requests that match.
   * @param {(change: { id: string, requested_by: string }) => boolean} matches
   */
  async cancelRequests(matches) {
    const { pending_changes: changes } =
      /** @type {{ pending_changes: { id: string, requested_by: string }[] }} */ (
        await this.request('root', 'GET', '/api/pending-changes')
      );
    for (const change of changes.filter(matches)) {
      await this.request('root', 'POST', `/api/pending-changes/${change.id}/cancel`, {});
    }
  }

  /** @param {string} statement */
  async sql(statement) {
    await runSql([statement], { FLAGCAST_DATA_DIR: this.#dataDir });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {string | null} token
   * @param {object} [body]
   * @returns {Promise<unknown>}
   */
  async #send(method, path, token, body) {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        'Content-Type': 'application/json',
        ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer = /** @type {unknown} */ (await response.json());
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Stops the server; `remove` removes its folder. */
  async stop() {
    if (this.#process.exitCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    await ended;
  }

  async remove() {
    await this.stop();
    await rm(this.#dataDir, { recursive: true, force: true });
  }
}
