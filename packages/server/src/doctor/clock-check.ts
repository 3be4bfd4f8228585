import type pg from 'pg';
import { askJson } from './facts.js';
import { advice, ok, type Finding } from './finding.js';

/** How far the clocks may be apart, in milliseconds, before it is worth a word. */
const tolerableSkewMs = 1_000;
const rounds = 3;

/** How far the database's clock is from this machine's, as told by the quickest of three answers. */
export async function checkClock(client: pg.ClientBase, now: () => number): Promise<Finding> {
  let best = { skewMs: 0, roundTripMs: Infinity };
  for (let round = 0; round < rounds; round += 1) {
    const askedAtMs = now();
    const databaseMs = await askJson<number>(
      client,
      'SELECT to_json(extract(epoch FROM clock_timestamp()) * 1000)::text',
    );
    const answeredAtMs = now();
    const roundTripMs = answeredAtMs - askedAtMs;
    if (roundTripMs < best.roundTripMs) {
      best = { skewMs: databaseMs - (askedAtMs + answeredAtMs) / 2, roundTripMs };
    }
  }
  const apartMs = Math.max(0, Math.abs(best.skewMs) - best.roundTripMs / 2);
  if (apartMs < tolerableSkewMs) {
    return ok('clock', 'the clocks of the database and of this machine agree to within a second');
  }
  return {
    id: 'clock',
    level: 'warning',
    what: `the database's clock is ${(apartMs / 1_000).toFixed(1)} s ${best.skewMs > 0 ? 'ahead of' : 'behind'} this machine's`,
    consequence:
      'no event is lost by it, but delays that are measured are off by as much, and so is when tokens expire',
    mend: advice('have both machines follow a time server, e.g. timedatectl set-ntp true'),
  };
}
