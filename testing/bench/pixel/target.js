import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { signToken } from '../../../packages/server/dist/auth/sign-token.js';
import { startServer } from '../../testkit/child.ts';
import { baselineSchemas } from '../latency/baseline-schema.js';
import { createDatabase } from '../../testkit/postgres.ts';
import { nowMs, openWindow } from './browser-windows.js';

/** @import { Browser, Page } from 'playwright-core' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { EmbeddedPostgres } from '@flagcast/demo' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */

const windowCount = 2;
/** Number of flags in the table besides the one that changes. */
const otherFlags = 500;

/**
 * The latencies of a round in milliseconds, one for each change, to the slower window. `fromCommitSent` and
 * `fromCommitAnswered`: from sending COMMIT and from its response to the change of the page. `drawn`: from sending COMMIT to
 * the drawn frame.
 *
 * @typedef {{ fromCommitSent: number[], fromCommitAnswered: number[], drawn: number[] }} Delays
 */

/**
 * A running target. `measure`: makes changes one after the other; the next one starts when all windows show the previous one,
 * after a random pause of up to `pauseLimitMs`.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly measure: (changes: number, pauseLimitMs: number, onChange: (done: number) => void) => Promise<Delays>,
 * }} Target
 */

/**
 * Starts a target with its own database, server process and windows. `console`: Flagcast. `baseline`: NOTIFY, a WebSocket,
 * and a page that sets one text.
 *
 * @param {BoundedRun} run
 * @param {EmbeddedPostgres} postgres
 * @param {Browser} browser
 * @param {{ name: string, kind: 'console' | 'baseline' }} target
 * @returns {Promise<Target>}
 */
export async function startTarget(run, postgres, browser, { name, kind }) {
  const database = await createDatabase(run, postgres, `bench_pixel_${kind}`);
  const { client: writer, projectId, environmentId, featureId } = database;
  const prepare =
    kind === 'console' ? await prepareConsole(run, database) : await prepareBaseline(run, database);
  const windows = await Promise.all(
    Array.from({ length: windowCount }, async () => await openWindow(run, browser, name, prepare)),
  );

  let last = 0;
  const changeOne = async () => {
    last += 1;
    const text = `change-${last}`;
    const shown = Promise.all(windows.map(async ({ awaitText }) => await awaitText(text)));
    await writer.query('BEGIN');
    await writer.query({
      name: 'bench_update',
      text: 'UPDATE feature_params SET default_value = $3, updated_at = now() WHERE feature_id = $1 AND environment_id = $2',
      values: [featureId, environmentId, text],
    });
    await writer.query({
      name: 'bench_insert',
      text: `INSERT INTO audit_log
          (feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, project_id, environment_id)
        VALUES ($1, 'feature', $1, 'user', 'bench', 'update', '{}', jsonb_build_object('default_value', $5::text), $2, $3, $4)`,
      values: [featureId, randomUUID(), projectId, environmentId, text],
    });
    const sentAtMs = nowMs();
    await writer.query('COMMIT');
    const answeredAtMs = nowMs();
    const all = await shown;
    const changedAtMs = Math.max(...all.map((each) => each.changedAtMs));
    const framedAtMs = Math.max(...all.map((each) => each.framedAtMs));
    return {
      fromCommitSent: changedAtMs - sentAtMs,
      fromCommitAnswered: changedAtMs - answeredAtMs,
      drawn: framedAtMs - sentAtMs,
    };
  };

  return {
    name,
    measure: async (changes, pauseLimitMs, onChange) => {
      /** @type {Delays} */
      const delays = { fromCommitSent: [], fromCommitAnswered: [], drawn: [] };
      for (let done = 0; done < changes; done += 1) {
        await delay(Math.random() * pauseLimitMs, undefined, { signal: run.signal });
        const { fromCommitSent, fromCommitAnswered, drawn } = await changeOne();
        delays.fromCommitSent.push(fromCommitSent);
        delays.fromCommitAnswered.push(fromCommitAnswered);
        delays.drawn.push(drawn);
        onChange(done + 1);
      }
      return delays;
    },
  };
}

/**
 * Starts Flagcast; its console shows the list of flags.
 *
 * @param {BoundedRun} run
 * @param {BenchDatabase} database
 * @returns {Promise<(page: Page) => Promise<void>>}
 */
async function prepareConsole(run, { url, client, projectId, environmentKey, userId, username }) {
  await client.query(
    `INSERT INTO features (project_id, key, name, kind)
     SELECT $1, 'flag-' || n, 'Flag ' || n, 'simple' FROM generate_series(1, ${otherFlags}) AS n`,
    [projectId],
  );
  const secret = randomUUID();
  const program = new URL('../flagcast-server.js', import.meta.url);
  const { port } = await startServer(run, program, { databaseUrl: url, secret });
  const token = await signToken({ secret, userId, username, ttlMs: 3_600_000 });
  return async (page) => {
    await page.addInitScript(`sessionStorage.setItem('flagcast.token', '${token}')`);
    await page.goto(`http://127.0.0.1:${port}/p/${projectId}/${environmentKey}/features`);
    await page.getByRole('link', { name: 'bench', exact: true }).waitFor();
    await page.getByRole('button', { name: /: Live/ }).waitFor();
  };
}

/**
 * @param {BoundedRun} run
 * @param {BenchDatabase} database
 * @returns {Promise<(page: Page) => Promise<void>>}
 */
async function prepareBaseline(run, { url, client }) {
  await client.query(baselineSchemas.payload);
  // The payload is the whole change, so the baseline's page makes no request.
  await client.query(`CREATE OR REPLACE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('bench_baseline', NEW.new_value ->> 'default_value'); RETURN NULL; END $$`);
  const program = new URL('../latency/baseline-server.js', import.meta.url);
  const { port } = await startServer(run, program, { databaseUrl: url, kind: 'payload' });
  return async (page) => {
    await page.setContent('<!doctype html><p>nothing yet</p>');
    await page.evaluate(`new Promise((resolve, reject) => {
      const socket = new WebSocket('ws://127.0.0.1:${port}');
      const text = document.querySelector('p');
      socket.onmessage = ({ data }) => { text.textContent = data; };
      socket.onopen = resolve;
      socket.onerror = reject;
    })`);
  };
}
