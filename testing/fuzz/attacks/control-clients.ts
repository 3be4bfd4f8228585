import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import type { FlagIds, TestChannel } from '../../testkit/channel.ts';
import { LibraryClient } from '../../testkit/clients/library-client.ts';
import { ReconnectingPlainClient } from '../../testkit/clients/reconnecting-client.ts';
import type { RecordingClient } from '../../testkit/clients/recording-client.ts';
import { readHistory } from '../../testkit/history.ts';
import { withClient } from '../../testkit/postgres.ts';
import { findDifferences } from '../../testkit/quiesce.ts';
import { signToken, type TestUser } from '../../testkit/tokens.ts';
import { insertAudit } from '../../testkit/writers.ts';

const writeIntervalMs = 250;
/** Entries of a client's log about the end of a connection. */
const interruption = /lost|rejected|idle time-out|disconnected|closed/;

/** Opens two well-behaved clients, one of each dialect. The attacks must not affect them. */
export function openControlClients(
  run: BoundedRun,
  {
    baseUrl,
    secret,
    user,
    channel,
  }: { baseUrl: string; secret: string; user: TestUser; channel: TestChannel },
): readonly RecordingClient[] {
  const token = signToken(secret, user);
  const options = {
    ...{ kind: 'control client', baseUrl, userId: user.id, chance: Math.random },
    getToken: () => token,
  };
  const clients = [
    new ReconnectingPlainClient({ ...options, index: 0 }, channel, 'steady'),
    new LibraryClient({ ...options, index: 1 }, [channel], false),
  ];
  run.defer(() => clients.forEach((client) => client.close()));
  return clients;
}

/** Writes to the flag regularly until the signal is aborted. */
export async function writeRegularly(databaseUrl: string, flag: FlagIds, signal: AbortSignal): Promise<void> {
  await withClient(databaseUrl, async (session) => {
    while (!signal.aborted) {
      await insertAudit(session, flag, { entityId: randomUUID() });
      await delay(writeIntervalMs);
    }
  });
}

/** Compares what the clients have received with the database. */
export async function checkControlClients(databaseUrl: string, clients: readonly RecordingClient[]) {
  const differences = await findDifferences(databaseUrl, clients);
  const history = await withClient(databaseUrl, readHistory);
  const delaysMs = clients.flatMap(({ segments }) =>
    segments.flatMap(({ channel, received }) =>
      received.map(({ key, atMs }) => {
        const [event] = [history.byId.get(key) ?? [], history.byPlainKey(channel, key)].flat();
        return atMs - (event?.committedMs ?? atMs);
      }),
    ),
  );
  return {
    events: history.byId.size,
    differences,
    interruptions: clients
      .flatMap(({ log }) => log.map(([, text]) => text))
      .filter((text) => interruption.test(text)),
    slowestMs: delaysMs.reduce((slowest, delayMs) => Math.max(slowest, delayMs), 0),
  };
}
