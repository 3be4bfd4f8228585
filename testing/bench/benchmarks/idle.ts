import { setTimeout as delay } from 'node:timers/promises';
import { cpuMsOf, memoryOf } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { rowsOf } from '../rounds.ts';
import { chooseTargets, isFlagcast } from '../targets/all.ts';

/** Pause between the start of a server and its first client, in milliseconds. */
const startMs = 2_000;
const boundKilobytes = 6.2;
const boundCpuPercent = 1.5;

export const idle = benchmark({
  summary: 'memory and processor time of idle connections (15 minutes)',
  // In 50 s each connection gets a keep-alive frame, and its rights are checked twice.
  options: { clients: 5_000, rounds: 3, seconds: 50, workers: 1, targets: ['flagcast', 'flagcast.v1', 'ws'] },
  measure: async (bench, { clients, rounds, seconds, workers, targets }) => {
    const receivers = new Receivers(bench.run, clients);
    const chosen = await chooseTargets(bench, targets);
    const measured = await bench.rounds(rounds, chosen, async ({ start }) => {
      const running = await start(bench, { channels: 1, clients, workers });
      const figures = await measureIdle(bench, running.pids, { clients, seconds }, async () => {
        await receivers.connect(running, { clients });
      });
      const { lost } = await receivers.disconnect();
      await running.end();
      return { ...figures, lost };
    });
    const rows = rowsOf(measured);
    return {
      title: `${clients} idle connections for ${seconds} s: the median of ${rounds} rounds (lowest-highest round), each with a new server`,
      tables: [{ rows }],
      bounds: rows
        .filter(isFlagcast)
        .flatMap((row) => [
          atMost(
            `${row.target}: memory of a connection`,
            row['kB of memory each'].median,
            boundKilobytes,
            ' kB',
          ),
          atMost(`${row.target}: CPU while all are idle`, row['% of a core'].median, boundCpuPercent, ' %'),
          none(`${row.target}: connections lost`, row.lost.high),
        ]),
    };
  },
});

/**
 * What connections cost the processes of a new server, in all, while they are idle for `seconds`. As long before that,
 * the garbage of the handshakes is collected.
 */
export async function measureIdle(
  { run: { signal }, step }: Bench,
  pids: readonly number[],
  { clients, seconds }: { readonly clients: number; readonly seconds: number },
  connect: () => Promise<void>,
) {
  await delay(startMs, undefined, { signal });
  const before = await memoryOf(pids);
  step(`connecting ${clients} clients`);
  await connect();
  step(`idle for 2 x ${seconds} s`);
  await delay(seconds * 1_000, undefined, { signal });
  const cpuMsBefore = await cpuMsOf(pids);
  await delay(seconds * 1_000, undefined, { signal });
  const cpuPercent = ((await cpuMsOf(pids)) - cpuMsBefore) / seconds / 10;
  const after = await memoryOf(pids);
  const kilobytes = (after.residentBytes - before.residentBytes) / clients / 1_000;
  return { 'kB of memory each': kilobytes, '% of a core': cpuPercent };
}
