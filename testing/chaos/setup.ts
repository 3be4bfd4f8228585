import { randomBytes } from 'node:crypto';
import type { BoundedRun } from '../testkit/bounded-run.ts';
import type { TestFeed } from '../testkit/channel.ts';
import { FaultyProxy } from '../testkit/faulty-proxy.ts';
import { startNats } from '../testkit/nats-server.ts';
import { startTemporaryPostgres } from '../testkit/postgres.ts';
import { freePort } from '../testkit/program.ts';
import { SeededRandom } from '../testkit/random.ts';
import { type SeededDatabase, seedDatabase } from '../testkit/seed-database.ts';
import type { Revocation } from '../testkit/segment-checker.ts';
import type { TestUser } from '../testkit/tokens.ts';
import type { ChaosSystem } from './fault.ts';
import type { ChaosOptions } from './options.ts';
import { ServerProcess } from './server-process.ts';
import { TokenIssuer } from './tokens.ts';

/** Of the run's seed, each part has a sequence of its own. */
const sequences = { plan: 0, proxy: 1, clients: 2, tokens: 3, presence: 4 } as const;

/** Of a feed, in reports. */
const feedLabel = 'the approvals feed';
/** Number of the members of all projects whose feeds are followed. */
const feedViewers = 3;

export function randomOf({ seed }: ChaosOptions, sequence: keyof typeof sequences): SeededRandom {
  return new SeededRandom(seed, sequences[sequence]);
}

/** Starts PostgreSQL, the servers and the proxy. `onProblem`: called with each failure of a server. */
export async function startSystem(
  run: BoundedRun,
  options: ChaosOptions,
  step: (text: string) => void,
  onProblem: (problem: string) => void,
): Promise<ChaosSystem> {
  step('starts PostgreSQL');
  const postgres = await startTemporaryPostgres(run, {
    fsync: 'off',
    track_commit_timestamp: 'on',
    max_prepared_transactions: '50',
  });
  const seeded = await seedDatabase(postgres);
  const secret = randomBytes(32).toString('base64');
  const nats = options.relay ? await startNats() : null;
  run.defer(async () => await nats?.remove());
  step('starts the servers');
  const startServer = async (number: number): Promise<ServerProcess> => {
    const { serverUrl: databaseUrl } = seeded;
    const name = `server ${number}`;
    const where = { databaseUrl, secret, port: await freePort(), relayUrl: nats?.url };
    const server = new ServerProcess(run, { name, ...where, onProblem });
    await server.start();
    return server;
  };
  const servers: [ServerProcess, ...ServerProcess[]] = [await startServer(1)];
  while (servers.length < options.servers) servers.push(await startServer(servers.length + 1));
  const proxyRandom = randomOf(options, 'proxy');
  const ports = servers.map(({ port }) => port);
  const proxy = await FaultyProxy.open(ports, { chance: () => proxyRandom.next() });
  run.defer(async () => await proxy.close());
  const tokenRandom = randomOf(options, 'tokens');
  return {
    ...seeded,
    ...{
      postgres,
      nats,
      servers,
      proxy,
      channels: seeded.projects.flat(),
      unlogged: 0,
      imports: 0,
      natsBackAtMs: 0,
    },
    tokens: new TokenIssuer(secret, () => tokenRandom.next()),
    revocations: missingMemberships(seeded),
    durationMs: options.minutes * 60_000,
    signal: run.signal,
  };
}

/** The memberships that the approvers do not have. A fault gives them for some time. */
function missingMemberships({ approvers, projects }: SeededDatabase): Revocation[] {
  return approvers.flatMap(({ id: userId, projectId: own }) =>
    projectIdsOf(projects)
      .filter((projectId) => projectId !== own)
      .map((projectId) => ({
        ...{ userId, projectId },
        ...{ requestedMs: -Infinity, fromMs: -Infinity, untilMs: Infinity, restoredMs: Infinity },
      })),
  );
}

function projectIdsOf(projects: SeededDatabase['projects']): string[] {
  return projects.flatMap(([channel]) => channel?.projectId ?? []);
}

/** The users whose approvals feeds are followed: one who may view all projects, members of all, and members of one. */
export function feedsOf({
  root,
  viewers,
  approvers,
  projects,
}: SeededDatabase): (readonly [TestUser, TestFeed])[] {
  const [channel] = projects.flat();
  if (channel === undefined) throw new Error('There are no channels');
  const projectIds = projectIdsOf(projects);
  const everything = { ...channel, env: feedLabel, projectIds, viewableProjectIds: projectIds };
  return [
    ...[root, ...viewers.slice(0, feedViewers)].map((user) => [user, { ...everything }] as const),
    ...approvers.map((user) => {
      const own = projects.flat().find(({ projectId }) => projectId === user.projectId) ?? channel;
      return [user, { ...everything, ...own, env: feedLabel, viewableProjectIds: [user.projectId] }] as const;
    }),
  ];
}
