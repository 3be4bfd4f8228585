import { randomBytes } from 'node:crypto';
import type { BoundedRun } from '../testkit/bounded-run.ts';
import type { TestChannel, TestFeed } from '../testkit/channel.ts';
import { FaultyProxy } from '../testkit/faulty-proxy.ts';
import { startTemporaryPostgres } from '../testkit/postgres.ts';
import { freePort } from '../testkit/program.ts';
import { SeededRandom } from '../testkit/random.ts';
import { type SeededDatabase, seedDatabase } from '../testkit/seed-database.ts';
import type { Revocation } from '../testkit/segment-checker.ts';
import type { TestUser } from '../testkit/tokens.ts';
import type { NemesisContext } from './fault.ts';
import { faultKinds, unsupportedFaults } from './nemesis.ts';
import type { ChaosOptions } from './options.ts';
import { drawPlan, type PlannedFault } from './plan.ts';
import { ServerProcess } from './server-process.ts';
import { TokenIssuer } from './tokens.ts';

/** Of the run's seed, each part has a sequence of its own. */
export const sequences = { plan: 0, proxy: 1, clients: 2, tokens: 3 } as const;

/** Of a feed, in reports. */
const feedLabel = 'the approvals feed';
/** Number of the members of all projects whose feeds are followed. */
const feedViewers = 3;

/** The system under test, and what will happen to it. */
export interface ChaosSetup {
  readonly options: ChaosOptions;
  readonly durationMs: number;
  readonly plan: readonly PlannedFault[];
  /** What the run leaves out, with the reason. */
  readonly skipped: Map<string, string>;
  /** Failures of the servers, the faults and the browser. */
  readonly problems: string[];
  readonly seeded: SeededDatabase;
  /** The first server, which no fault ends. */
  readonly survivor: ServerProcess;
  readonly context: NemesisContext;
}

/** Starts PostgreSQL, the servers and the proxy, and draws the faults. */
export async function setUp(
  run: BoundedRun,
  options: ChaosOptions,
  step: (text: string) => void,
): Promise<ChaosSetup> {
  const durationMs = options.minutes * 60_000;
  const randomOf = (sequence: keyof typeof sequences): SeededRandom =>
    new SeededRandom(options.seed, sequences[sequence]);
  const problems: string[] = [];
  const skipped = new Map(Object.entries(unsupportedFaults()));
  skipped.set("PostgreSQL's clock wrong", 'its processes use the clock of the system');
  const plan = drawPlan(
    randomOf('plan'),
    faultKinds.filter((kind) => !skipped.has(kind)),
    durationMs,
  );
  step('starts PostgreSQL');
  const postgres = await startTemporaryPostgres(run, {
    fsync: 'off',
    track_commit_timestamp: 'on',
    max_prepared_transactions: '50',
  });
  const seeded = await seedDatabase(postgres);
  const secret = randomBytes(32).toString('base64');
  step('starts the servers');
  const servers: ServerProcess[] = [];
  for (let number = 1; number <= options.servers; number += 1) {
    const server = new ServerProcess(run, {
      name: `server ${number}`,
      databaseUrl: seeded.serverUrl,
      secret,
      port: await freePort(),
      onProblem: (problem) => void problems.push(problem),
    });
    await server.start();
    servers.push(server);
  }
  const [survivor] = servers;
  if (survivor === undefined) throw new Error('A run needs servers');
  const random = randomOf('proxy');
  const proxy = await FaultyProxy.open(
    servers.map(({ port }) => port),
    { chance: () => random.next() },
  );
  run.defer(async () => await proxy.close());
  const channels: TestChannel[] = seeded.projects.flat();
  const tokenRandom = randomOf('tokens');
  const tokens = new TokenIssuer(secret, () => tokenRandom.next());
  const { databaseUrl, importChannel, viewers, approvers } = seeded;
  return {
    ...{ options, durationMs, plan, skipped, problems, seeded, survivor },
    context: {
      ...{ postgres, databaseUrl, servers, proxy, channels, importChannel, viewers, approvers, tokens },
      ...{ revocations: missingMemberships(seeded), imports: 0, unlogged: 0, durationMs, signal: run.signal },
    },
  };
}

/** The memberships that the approvers do not have. A fault gives them for some time. */
function missingMemberships({ approvers, projects }: SeededDatabase): Revocation[] {
  return approvers.flatMap(({ id: userId, projectId: own }) =>
    projectIdsOf(projects)
      .filter((projectId) => projectId !== own)
      .map((projectId) => ({ userId, projectId, fromMs: -Infinity, untilMs: Infinity })),
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
