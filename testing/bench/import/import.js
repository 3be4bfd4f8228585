import { prepareFlagcast } from '../targets/flagcast.js';
import { openSmallChannel } from '../fairness/small-channel.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { memoryOf } from '../../testkit/process-figures.ts';
import { bound, clearProgress, figure, machineLine, saveResult, showProgress } from '../results.js';
import { percentiles } from '../statistics.js';
import { connect } from '../../testkit/postgres.ts';

/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const limitMs = 45 * 60_000;
const rows = 1_000_000;
/** Indexes of the channel of the import and of another one. */
const imported = 0;
const other = 1;
const pauseLimitMs = 100;
/** Time limit for all clients to receive the import, in milliseconds. */
const arrivalLimitMs = 40 * 60_000;
const otherP99LimitMs = 500;
const memoryLimitMb = 150;
const warmUpEvents = 30;

/**
 * Inserts a million audit rows of one channel in one statement, and measures the latency of another channel, the memory of
 * the server, and the deliveries.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runImport(options) {
  const clients = oneCount(options, 50);
  return await measure({ name: 'import', limitMs, clients }, async ({ run, postgres, machine }) => {
    const prepared = await prepareFlagcast({ run, postgres, channels: 2, maxConnections: clients + 5 });
    const server = await prepared.serve();
    const receivers = startReceivers(run, clients);
    await receivers.connect({ port: server.port, dialect: 'text', headers: prepared.headers }, [
      { ...prepared.address(imported), clients },
    ]);
    const channel = await openSmallChannel(run, prepared, { port: server.port, channel: other, clients: 1 });
    await channel.measure(warmUpEvents, pauseLimitMs);
    const before = await memoryOf([server.pid]);
    const importer = await connect(run, prepared.database.url, 'bench importer');
    const ids = prepared.channelIds[imported];
    if (ids === undefined) throw new Error('There is no channel to import into');

    const startedAtMs = performance.now();
    /** @type {number[]} */
    const delaysMs = [];
    let peakBytes = before.residentBytes;
    const arrival = new AbortController();
    const measuring = (async () => {
      while (!arrival.signal.aborted) {
        delaysMs.push(...(await channel.measure(1, pauseLimitMs)));
        peakBytes = Math.max(peakBytes, (await memoryOf([server.pid])).residentBytes);
      }
    })();
    showProgress('import: one statement');
    await importer.query(
      `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, project_id, environment_id)
      SELECT $1, 'feature', gen_random_uuid(), 'user', 'bench', 'update', $2, $3 FROM generate_series(1, $4::int)`,
      [ids.featureId, ids.projectId, ids.environmentId, rows],
    );
    const committedMs = performance.now() - startedAtMs;
    let events = 0;
    let lost = 0;
    for (let fewest = 0; fewest < rows && performance.now() - startedAtMs < arrivalLimitMs && lost === 0;) {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      ({ events, fewest, lost } = await receivers.count());
      showProgress(`import: the slowest client has ${fewest} of ${rows} rows`);
    }
    const arrivedMs = performance.now() - startedAtMs;
    arrival.abort();
    await measuring;
    clearProgress();

    const delays = percentiles(delaysMs);
    const growthMb = (peakBytes - before.residentBytes) / 2 ** 20;
    const missing = rows * clients - events;
    const bounds = [
      bound('p99 of another channel during the import', delays.p99, otherP99LimitMs, ' ms'),
      bound('growth of the resident memory of the server', growthMb, memoryLimitMb, ' MB'),
      bound('missing events', missing, 0, ''),
      bound('closed connections', lost, 0, ''),
    ];
    const file = await saveResult(
      'import',
      { machine, bounds, rows, clients, committedMs, arrivedMs, delays, samples: delaysMs.length, growthMb },
      options.output,
    );
    console.log(`${rows} rows in one statement, ${clients} clients of their channel`);
    console.log(machineLine(machine));
    console.log(
      `\nCommitted after ${figure(committedMs / 1_000)} s, all events delivered after ${figure(arrivedMs / 1_000)} s (${figure(events / (arrivedMs / 1_000))} per second). Another channel during the import: p50 ${figure(delays.p50)}, p99 ${figure(delays.p99)}, max ${figure(delays.max)} ms of ${delaysMs.length} events. Memory +${figure(growthMb)} MB.\n\nWritten to ${file}`,
    );
    return bounds;
  });
}
