import { setTimeout as delay } from 'node:timers/promises';
import { memoryOf, resetPeak } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import { benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { rowsOf } from '../rounds.ts';
import { chooseTargets, isFlagcast, targetKinds } from '../targets/all.ts';

const events = 300;
/** Not measured: compiling code that has not run yet takes memory. */
const warmUpEvents = 20;
const quietMs = 1_000;
/** Limit of the memory that the burst takes, in MB. */
const boundPeak = 60;

export const burst = benchmark({
  summary: `${events} events at once to all clients: deliveries, closed connections, memory (4 minutes)`,
  options: { clients: 1_000, rounds: 5, targets: targetKinds },
  measure: async (bench, { clients, rounds, targets }) => {
    const receivers = new Receivers(bench.run, clients);
    const chosen = await chooseTargets(bench, targets);
    const measured = await bench.rounds(rounds, chosen, async ({ start }) => {
      const running = await start(bench, { channels: 1, clients });
      await receivers.connect(running, { clients });
      const publish = async (channels: readonly number[]) => {
        const arriving = receivers.expect(channels);
        await running.publish(channels);
        await arriving;
      };
      for (let event = 0; event < warmUpEvents; event += 1) await publish([0]);
      await delay(quietMs, undefined, { signal: bench.run.signal });
      const before = await receivers.count();
      const { residentBytes } = await memoryOf(running.pids);
      await resetPeak(running.pids);
      const startedAtMs = performance.now();
      await publish(Array.from({ length: events }, () => 0));
      const ms = performance.now() - startedAtMs;
      const { peakBytes } = await memoryOf(running.pids);
      const after = await receivers.disconnect();
      await running.end();
      return {
        missing: events * clients - (after.events - before.events),
        closed: after.lost,
        'MB above idle': (peakBytes - residentBytes) / 1e6,
        'ms to the last': ms,
      };
    });
    const rows = rowsOf(measured);
    return {
      title: `${events} events at once to ${clients} clients: median of ${rounds} rounds (lowest-highest round), each with a new server`,
      tables: [{ rows }],
      bounds: rows
        .filter(isFlagcast)
        .flatMap((row) => [
          none(`${row.target}: missing events`, row.missing.high),
          none(`${row.target}: connections closed`, row.closed.high),
          atMost(`${row.target}: peak of memory above idle`, row['MB above idle'].median, boundPeak, ' MB'),
        ]),
    };
  },
});
