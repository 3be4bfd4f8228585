import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Browser, Locator, Page } from 'playwright-core';
import { nowMs } from '../../testkit/child.ts';
import { atMost } from '../../testkit/report.ts';
import { insertAudit, insertRequest } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { percentiles, rowsOf } from '../rounds.ts';
import { startFlagcast } from '../targets/flagcast.ts';
import { ObservedWindow, startBrowser } from './browser-windows.ts';

const changes = 200;
/** Not measured: code is compiled and plans are made at first use. */
const warmUpChanges = 30;
/** Several frames, so that changes are not synchronous with the screen. */
const pauseLimitMs = 50;
const bounds = { flagsMs: 10, approvalsMs: 20 };
const windowCount = 2;
/** The number of flags in the table besides the one that changes. */
const otherFlags = 500;
/** The number of environments that the approver's page follows. */
const environments = 60;

/** The latency of a change to the slower window, in milliseconds. */
interface Latency {
  readonly changed: number;
  readonly drawn: number;
}

interface Target {
  readonly name: string;
  readonly windows: readonly ObservedWindow[];
  readonly writer: pg.Client;
  /** Writes within a transaction what makes the windows show the text that it returns. */
  readonly write: (index: number) => Promise<string>;
}

export const pixel = benchmark({
  summary: 'from COMMIT to the screen of two console windows and of two approvers (2 minutes)',
  options: { rounds: 3 },
  measure: async (bench, { rounds }) => {
    const browser = await startBrowser(bench.run);
    const targets = [await openFlags(bench, browser), await openApprovals(bench, browser)];
    const written = new Map<Target, number>();
    const measureChanges = async (target: Target, count: number) => {
      const latencies: Latency[] = [];
      for (let done = 0; done < count; done += 1) {
        await delay(Math.random() * pauseLimitMs, undefined, { signal: bench.run.signal });
        const index = (written.get(target) ?? 0) + 1;
        written.set(target, index);
        latencies.push(await change(target, index));
      }
      return latencies;
    };
    const measured = await bench.rounds(rounds, targets, async (target) => {
      await measureChanges(target, warmUpChanges);
      return await measureChanges(target, changes);
    });
    const rowsFor = (figure: keyof Latency) =>
      rowsOf(
        measured.map(({ target, rounds: own }) => ({
          target,
          rounds: own.map((latencies) => percentiles(latencies.map((each) => each[figure]))),
        })),
      );
    const [changed, drawn] = [rowsFor('changed'), rowsFor('drawn')];
    return {
      title: `Latency from sending COMMIT to the slower of two windows, in ms: median of ${rounds} rounds of ${changes} changes (lowest-highest round)`,
      tables: [
        { caption: 'To the change of the page', rows: changed },
        { caption: 'To the drawn frame', rows: drawn },
      ],
      bounds: [
        atMost('p50 to two lists of flags', changed[0]?.p50.median ?? NaN, bounds.flagsMs, ' ms'),
        atMost('p50 to two approvers', changed[1]?.p50.median ?? NaN, bounds.approvalsMs, ' ms'),
      ],
    };
  },
});

/** Commits a change, and waits until all windows show it. */
async function change({ windows, writer, write }: Target, index: number): Promise<Latency> {
  await writer.query('BEGIN');
  const text = await write(index);
  const showing = Promise.all(windows.map(async (window) => await window.awaitText(text)));
  const sentAtMs = nowMs();
  await writer.query('COMMIT');
  const shown = await showing;
  return {
    changed: Math.max(...shown.map(({ changedAtMs }) => changedAtMs)) - sentAtMs,
    drawn: Math.max(...shown.map(({ drawnAtMs }) => drawnAtMs)) - sentAtMs,
  };
}

/** Opens windows of the console at a path, and waits until it shows the element, live. */
async function openConsole(
  bench: Bench,
  browser: Browser,
  { url, token, database }: Awaited<ReturnType<typeof startFlagcast>>,
  { path, texts, element }: { path: string; texts: RegExp; element: (page: Page) => Locator },
) {
  const prepare = async (page: Page): Promise<void> => {
    await page.addInitScript(`sessionStorage.setItem('flagcast.token', '${token(database.user)}')`);
    await page.goto(`${url}${path}`);
    await element(page).waitFor();
    await page.getByRole('button', { name: /: Live/ }).waitFor();
  };
  const opening = Array.from(
    { length: windowCount },
    async () => await ObservedWindow.open(bench.run, browser, texts, prepare),
  );
  return await Promise.all(opening);
}

/** The console of Flagcast with its list of flags. */
async function openFlags(bench: Bench, browser: Browser): Promise<Target> {
  const flagcast = await startFlagcast(bench, { channels: 1, clients: windowCount });
  const { client: writer, channels } = flagcast.database;
  const [channel] = channels;
  await writer.query(
    `INSERT INTO features (project_id, key, name, kind)
     SELECT $1, 'flag-' || n, 'Flag ' || n, 'simple' FROM generate_series(1, ${otherFlags}) AS n`,
    [channel.projectId],
  );
  const windows = await openConsole(bench, browser, flagcast, {
    path: `/p/${channel.projectId}/${channel.env}/features`,
    texts: /change-\d+/g,
    element: (page) => page.getByRole('link', { name: 'bench', exact: true }),
  });
  const write = async (index: number): Promise<string> => {
    const value = `change-${index}`;
    await writer.query({
      name: 'bench_update',
      text: 'UPDATE feature_params SET default_value = $3, updated_at = now() WHERE feature_id = $1 AND environment_id = $2',
      values: [channel.featureId, channel.environmentId, value],
    });
    await insertAudit(writer, channel, { value });
    return value;
  };
  return { name: 'the list of flags', windows, writer, write };
}

/** The page of an approver, which says how many requests are new. */
async function openApprovals(bench: Bench, browser: Browser): Promise<Target> {
  const flagcast = await startFlagcast(bench, { channels: environments, clients: windowCount });
  const { client: writer } = flagcast.database;
  const write = async (index: number): Promise<string> => {
    const channel = flagcast.channel(index % environments);
    // A flag has at most one open request.
    const { rows } = await writer.query<{ id: string }>({
      name: 'bench_feature',
      text: `INSERT INTO features (project_id, key, name, kind) VALUES ($1, $2, $2, 'simple') RETURNING id`,
      values: [channel.projectId, `requested-${index}`],
    });
    await insertRequest(writer, channel, rows[0]?.id ?? '');
    return `${index} new`;
  };
  // The page shows the first request at once: on an empty list nothing can move.
  await write(0);
  const windows = await openConsole(bench, browser, flagcast, {
    path: '/approvals',
    texts: /\d+ new/g,
    element: (page) => page.getByRole('article'),
  });
  return { name: `approvals in ${environments} environments`, windows, writer, write };
}
