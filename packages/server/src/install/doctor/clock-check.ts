import type pg from 'pg';
import { askJson } from './facts.js';
import { advice, ok, type Finding } from './finding.js';

/** From this difference of the clocks on there is a warning, in milliseconds. */
const tolerableSkewMs = 1_000;
const rounds = 3;

/** Compares the database's clock with this machine's, by the quickest of three queries. */
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
    message: `the database's clock is ${(apartMs / 1_000).toFixed(1)} s ${best.skewMs > 0 ? 'ahead of' : 'behind'} this machine's`,
    consequence: 'no event is lost, but measured delays and the expiry of tokens are wrong by as much',
    fix: advice('synchronize both machines with a time server, e.g. timedatectl set-ntp true'),
  };
}
