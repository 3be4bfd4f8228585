import { setTimeout as delay } from 'node:timers/promises';
import { memoryOf, resetPeak } from '../../testkit/process-figures.ts';
import { atMost } from '../../testkit/report.ts';
import { benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { spreads } from '../rounds.ts';
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
      const missing = events * clients - (after.events - before.events);
      return { missing, closed: after.lost, peakMb: (peakBytes - residentBytes) / 1e6, ms };
    });
    const results = measured.map(({ target, rounds: own }) => ({ target, ...spreads(own) }));
    return {
      title: `${events} events at once to ${clients} clients: median of ${rounds} rounds (lowest-highest round), each with a new server`,
      tables: [
        {
          rows: results.map(({ target, missing, closed, peakMb, ms }) => ({
            target: target.name,
            missing: missing.high,
            closed: closed.high,
            'MB above idle': peakMb,
            'ms to the last': ms,
          })),
        },
      ],
      bounds: results
        .filter(({ target }) => isFlagcast(target))
        .flatMap(({ target: { name }, missing, closed, peakMb }) => [
          atMost(`${name}: missing events`, missing.high, 0, ''),
          atMost(`${name}: connections closed`, closed.high, 0, ''),
          atMost(`${name}: peak of memory above idle`, peakMb.median, boundPeak, ' MB'),
        ]),
    };
  },
});
