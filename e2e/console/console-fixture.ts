import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { signToken } from '../../packages/server/src/auth/sign-token.js';
import { demoProjects, demoUsers } from '../../packages/demo/src/company/company.js';
import {
  createTestDatabase,
  type SeededProject,
  type TestDatabase,
} from '../../packages/server/test/database.js';
import {
  startTestServer,
  type TestServer,
  testSecret,
  type TestServerOptions,
} from '../../packages/server/test/server.js';
import { builtPagesDir } from '../../packages/console/server/console-files.js';
import { en } from '../../packages/console/src/i18n/en.js';
import { ConsoleWindow, sharedChromium, type WindowOptions } from './console-window.js';

export type Person = 'alice' | 'bob' | 'carol' | 'dave' | 'root';

export const webShop = demoProjects[0]?.id ?? '';

/** A flag created for a test. */
export interface Flag {
  readonly id: string;
  readonly projectId: string;
  readonly key: string;
  readonly name: string;
}

type OpenOptions = WindowOptions & { readonly tokenTtlMs?: number };

interface OpenWindow {
  readonly window: ConsoleWindow;
  /** Person and options: a test gets an idle window of its kind. */
  readonly kind: string;
  readonly options: OpenOptions;
}

/** The server of a test file. */
export interface FixtureServer {
  readonly httpUrl: string;
  close(): Promise<void>;
}

/** A new database with the demo and a server for a test file, and the Chromium of the worker. */
export class ConsoleFixture {
  readonly database: TestDatabase;
  readonly server: FixtureServer;
  readonly #browser: Browser;
  readonly #userIds: ReadonlyMap<string, string>;
  /** Those of the current test. */
  #windows: OpenWindow[] = [];
  /** The cleared ones of earlier tests. */
  #idleWindows: OpenWindow[] = [];
  #flags = 0;

  constructor(
    database: TestDatabase,
    server: FixtureServer,
    browser: Browser,
    userIds: ReadonlyMap<string, string>,
  ) {
    this.database = database;
    this.server = server;
    this.#browser = browser;
    this.#userIds = userIds;
  }

  /** Opens a window at a path of the console, signed in as the user, or signed out with null. */
  async open(person: Person | null, path: string, options: OpenOptions = {}): Promise<ConsoleWindow> {
    const kind = JSON.stringify([person, options]);
    const index = this.#idleWindows.findIndex((idle) => idle.kind === kind);
    let [opened] = index === -1 ? [] : this.#idleWindows.splice(index, 1);
    if (opened === undefined) {
      const token = person === null ? null : await this.token(person, options.tokenTtlMs);
      const window = await ConsoleWindow.open(this.#browser, this.server.httpUrl, token, options);
      opened = { window, kind, options };
    }
    this.#windows.push(opened);
    await opened.window.page.goto(path);
    return opened.window;
  }

  /** Signs a token of the user; default lifetime: an hour. */
  async token(person: Person, ttlMs = 3_600_000): Promise<string> {
    const userId = this.#userIds.get(person) ?? '';
    return await signToken({ secret: testSecret, userId, username: person, ttlMs });
  }

  /** Decides on a request as the person sees it now. */
  async decide(person: Person, id: string, step: string, body: object = {}): Promise<void> {
    const path = `/api/pending-changes/${id}`;
    const { version, entities } = (await this.request(person, 'GET', path)) as {
      version: string;
      entities: { feature_id: string; feature_version: string }[];
    };
    const versions = entities.map((entity) => [entity.feature_id, entity.feature_version]);
    const seen = { version, feature_versions: Object.fromEntries(versions) as object };
    await this.request(
      person,
      'POST',
      `${path}/${step}`,
      step === 'cancel' ? undefined : { ...seen, ...body },
    );
  }

  /** Sends an API request as the user. */
  async request(
    person: Person,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<Record<string, unknown>> {
    const response = await fetch(`${this.server.httpUrl}${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${await this.token(person)}`,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Changes a flag as the user; with a reason this creates a request in a guarded environment. */
  async change(person: Person, flag: Flag, env: string, change: object): Promise<Record<string, unknown>> {
    const { feature } = (await this.request(person, 'GET', `/api/features/${flag.id}?env=${env}`)) as {
      feature: { version: string };
    };
    return await this.request(person, 'PATCH', `/api/features/${flag.id}`, {
      env,
      version: feature.version,
      ...change,
    });
  }

  /** The id of an environment of the project Web shop. */
  async environmentId(key: string): Promise<string> {
    const { rows } = await this.database.pool.query<{ id: string }>(
      'SELECT id FROM environments WHERE project_id = $1 AND key = $2',
      [webShop, key],
    );
    if (rows[0] === undefined) throw new Error(`no environment ${key}`);
    return rows[0].id;
  }

  /** Creates a flag directly in the database, for windows that are opened later. */
  async addFlag(projectId = webShop): Promise<Flag> {
    this.#flags += 1;
    const id = randomUUID();
    const key = `flag-${id.slice(0, 8)}`;
    const name = `Flag ${this.#flags} of the tests`;
    await this.database.pool.query(
      `INSERT INTO features (id, project_id, key, name, description, kind) VALUES ($1, $2, $3, $4, 'Made for a test', 'simple')`,
      [id, projectId, key, name],
    );
    return { id, projectId, key, name };
  }

  /** Adds a user to a project. */
  async addMember(project: SeededProject, person: Person, role: string): Promise<void> {
    await this.database.pool.query(
      'INSERT INTO memberships (project_id, user_id, role_id) SELECT $1, $2, id FROM roles WHERE key = $3',
      [project.projectId, this.#userIds.get(person), role],
    );
  }

  /** Saves screenshots of the windows in the folder FLAGCAST_TEST_PICTURES, if it is set. */
  async takePictures(name: string): Promise<void> {
    const folder = process.env['FLAGCAST_TEST_PICTURES'];
    if (folder === undefined) return;
    await mkdir(folder, { recursive: true });
    const pages = this.#windows.flatMap(({ window }) => window.context.pages());
    for (const [index, page] of pages.entries()) {
      const file = `${name.replaceAll(/\W+/g, '-')}-${index + 1}.png`;
      await page.screenshot({ path: `${folder}/${file}` });
    }
  }

  /** Expects that no window of a test reported a problem. Clears them for the next test, or closes them. */
  async endTest(hasFailed: boolean): Promise<void> {
    const windows = this.#windows;
    this.#windows = [];
    const problems = await Promise.all(
      windows.map(async (opened) => {
        const { window, options } = opened;
        const isOwn = options.isOwn === true || options.tokenTtlMs !== undefined;
        if (hasFailed || isOwn || window.page.isClosed()) return await window.close();
        const found = await window.clear(options);
        this.#idleWindows.push(opened);
        return found;
      }),
    );
    expect(problems.flat(), 'problems reported by the browser').toEqual([]);
  }

  async closeWindows(): Promise<void> {
    await Promise.all(this.#idleWindows.map(async ({ window }) => await window.close()));
  }
}

/** The path of a page, e.g. `at(webShop, 'dev', 'features')`. */
export function at(projectId: string, env: string, page: string): string {
  return `/p/${projectId}/${env}/${page}`;
}

/** The path of the list, filtered to this flag. */
export function listOf(flag: Flag, env: string): string {
  return at(flag.projectId, env, `features?q=${flag.key}`);
}

/** The path of the flag's page. */
export function pageOf(flag: Flag, env: string): string {
  return at(flag.projectId, env, `features/${flag.id}`);
}

/** Scrolls the activity page until it shows the end of the history. */
export async function scrollToEndOfHistory(page: Page): Promise<void> {
  await page.getByRole('listitem').first().hover();
  await expect
    .poll(async () => {
      await page.mouse.wheel(0, 20_000);
      return await page.getByText(en.activity.end).isVisible();
    })
    .toBe(true);
}

/**
 * Creates the fixture of a test file before its first test, and removes it after the last one. Windows of one test are cleared
 * for the next one. `start` starts the server; default: a server in this process.
 */
export function useConsoleFixture(
  start: (databaseUrl: string) => Promise<FixtureServer> = async (url) => await startFixtureServer(url),
): { readonly fixture: ConsoleFixture } {
  const created: { fixture?: ConsoleFixture } = {};
  beforeAll(async () => {
    const [browser, database] = await Promise.all([sharedChromium(), createDemoDatabase()]);
    const server = await start(database.url);
    const { rows } = await database.pool.query<{ username: string; id: string }>(
      'SELECT username, id::text AS id FROM users',
    );
    created.fixture = new ConsoleFixture(
      database,
      server,
      browser,
      new Map(rows.map(({ username, id }) => [username, id])),
    );
  });
  afterEach(async ({ task }) => {
    const hasFailed = task.result?.state === 'fail';
    if (hasFailed) await created.fixture?.takePictures(task.name);
    await created.fixture?.endTest(hasFailed);
  });
  afterAll(async () => {
    await created.fixture?.closeWindows();
    await created.fixture?.server.close();
    await created.fixture?.database.drop();
  });
  return {
    get fixture() {
      if (created.fixture === undefined) throw new Error('The fixture is available only during the tests');
      return created.fixture;
    },
  };
}

/** Starts a server with the options of the demo in this process. */
export async function startFixtureServer(
  databaseUrl: string,
  options: TestServerOptions = {},
): Promise<TestServer> {
  return await startTestServer(databaseUrl, {
    writes: true,
    console: { demoUsers, pagesDir: builtPagesDir },
    ...options,
  });
}

async function createDemoDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase({ schema: 'demo' });
  // The test cluster allows prepared transactions, which switches NOTIFY off by default; the demo's does not.
  await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
  return database;
}
