import type { EventMessage, FeatureState } from '#protocol';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Channel } from '../../src/index.js';
import {
  respondJson,
  caughtUp,
  event,
  feature,
  heartbeat,
  refused,
  renamed,
  type ScriptedConnection,
  type ScriptedServer,
} from './scripted-server.js';
import { type ClientFixture, startFixture, until } from './client-fixture.js';

const ids = ['7', '8'] as const;
const keys = ['prod', 'stage'] as const;

/** Waits for this number of turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A model of the server: the states of two environments, and one log of events from which clients resume. */
class ModelServer {
  readonly #server: ScriptedServer;
  readonly #log: EventMessage[] = [];
  readonly #states = new Map<string, Map<string, FeatureState>>(ids.map((id) => [id, new Map()]));
  readonly #subscriptions = new Map<ScriptedConnection, Set<string>>();
  /** Protocol violations of the client. */
  readonly violations: string[] = [];

  constructor(server: ScriptedServer) {
    this.#server = server;
    server.respondToSnapshot = (response, request) => {
      const { searchParams: params } = new URL(request.url ?? '', server.url);
      const id = params.get('env_id') ?? server.environments.get(params.get('env') ?? '');
      if (id === undefined) respondJson(response, 404, { code: 'unknown_environment' });
      else {
        const snapshot = {
          ...this.nameOf(id),
          cursor: this.#cursor,
          embedded_state: true,
          features: this.featuresOf(id),
          pending_changes: [],
        };
        // Delay the response, so that newer events arrive before it.
        void turns(20).then(() => respondJson(response, 200, snapshot));
      }
    };
    void this.#serve();
  }

  nameOf(id: string) {
    const [key = ''] = [...this.#server.environments].find(([, other]) => other === id) ?? [];
    return { project_id: 'p1', environment: key, environment_id: id };
  }

  featuresOf(id: string): FeatureState[] {
    return [...(this.#states.get(id)?.values() ?? [])];
  }

  eventsOf(id: string): EventMessage[] {
    return this.#log.filter(({ environment_id: other }) => other === id);
  }

  /** Changes a feature of the environment. */
  change(id: string): void {
    const number = this.#log.length + 1;
    const featureId = `f${number % 3}`;
    const state = feature(featureId, { name: `${id}-${number}` });
    this.#states.get(id)?.set(featureId, state);
    const message = event(String(number), featureId, {
      ...this.nameOf(id),
      feature: state,
      cursor: `c${number}`,
    });
    this.#log.push(message);
    for (const [connection, subscribed] of this.#subscriptions)
      if (subscribed.has(id)) connection.send(message);
  }

  swap(one: string, other: string): void {
    const [first, second] = [this.nameOf(one), this.nameOf(other)];
    if (one === other) return;
    this.#server.environments.set(first.environment, other).set(second.environment, one);
    for (const [connection, subscribed] of this.#subscriptions) {
      if (subscribed.has(one)) connection.send(renamed(first, second.environment));
      if (subscribed.has(other)) connection.send(renamed(second, first.environment));
    }
  }

  disconnect(): void {
    for (const connection of this.#subscriptions.keys()) connection.socket.terminate();
    this.#subscriptions.clear();
  }

  resync(id: string): void {
    for (const [connection, subscribed] of this.#subscriptions) {
      if (subscribed.delete(id)) {
        connection.send({ type: 'resync', ...this.nameOf(id), reason: 'too_many_missed' });
      }
    }
  }

  sendHeartbeat(): void {
    for (const connection of this.#subscriptions.keys()) connection.send(heartbeat(this.#cursor));
  }

  get #cursor(): string {
    return `c${this.#log.length}`;
  }

  async #serve(): Promise<void> {
    for (;;) {
      const connection = await this.#server.connections.next();
      this.#subscriptions.set(connection, new Set());
      connection.hello();
      void this.#respond(connection);
    }
  }

  async #respond(connection: ScriptedConnection): Promise<void> {
    for (;;) {
      const message = await connection.received.next();
      const subscribed = this.#subscriptions.get(connection);
      if (!subscribed || !('env_id' in message)) continue;
      const id = String(message.env_id);
      if (message.type === 'subscribe') {
        if (subscribed.has(id)) this.violations.push(`subscribed twice to ${id}`);
        subscribed.add(id);
        const position = Number(message.cursor?.slice(1));
        connection.send(...this.eventsOf(id).filter((each) => Number(each.id) > position));
        connection.send(caughtUp(this.#cursor, this.nameOf(id)));
      } else if (subscribed.delete(id)) connection.send({ type: 'unsubscribed', ...this.nameOf(id) });
      // A resync can be in transit at the same time.
      else connection.send(refused(this.nameOf(id), 'not_subscribed'));
    }
  }
}

type Step =
  | { readonly do: 'change' | 'resync'; readonly id: string }
  | { readonly do: 'swap'; readonly id: string; readonly other: string }
  | { readonly do: 'open'; readonly key: string }
  | { readonly do: 'close'; readonly index: number }
  | { readonly do: 'take over'; readonly pause: number }
  | { readonly do: 'disconnect' | 'heartbeat' | 'wait' | 'settle' };

const anyId = fc.constantFrom(...ids);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: anyId.map((id) => ({ do: 'change', id }) as const) },
  { weight: 1, arbitrary: anyId.map((id) => ({ do: 'resync', id }) as const) },
  { weight: 3, arbitrary: fc.tuple(anyId, anyId).map(([id, other]) => ({ do: 'swap', id, other }) as const) },
  { weight: 3, arbitrary: fc.constantFrom(...keys).map((key) => ({ do: 'open', key }) as const) },
  { weight: 2, arbitrary: fc.nat(40).map((pause) => ({ do: 'take over', pause }) as const) },
  { weight: 2, arbitrary: fc.nat(5).map((index) => ({ do: 'close', index }) as const) },
  {
    weight: 4,
    arbitrary: fc
      .constantFrom('heartbeat', 'wait', 'wait', 'settle', 'settle', 'disconnect')
      .map((name) => ({ do: name }) as const),
  },
);

interface Opened {
  readonly channel: Channel;
  readonly events: EventMessage[];
}

async function run(fixture: ClientFixture, steps: readonly Step[]): Promise<void> {
  const model = new ModelServer(fixture.server);
  const client = fixture.connect();
  const opened: Opened[] = [];
  const all: Opened[] = [];
  const resynced = new Set<string>();
  const open = (env: string): void => {
    const channel = client.channel({ projectId: 'p1', env });
    const known = opened.find((each) => each.channel === channel);
    const events: EventMessage[] = known?.events ?? [];
    if (!known) channel.onEvent((each) => events.push(each));
    opened.push({ channel, events });
    all.push({ channel, events });
  };
  const settled = async (): Promise<void> => {
    for (const { channel } of opened) {
      await until(
        channel,
        ({ status, environment }) =>
          status.state === 'live' &&
          environment === model.nameOf(channel.toSnapshot()?.environment_id ?? '').environment,
      );
    }
  };
  open('prod');
  for (const each of steps) {
    if (each.do === 'change') model.change(each.id);
    else if (each.do === 'resync') {
      resynced.add(each.id);
      model.resync(each.id);
    } else if (each.do === 'swap') model.swap(each.id, each.other);
    else if (each.do === 'open') open(each.key);
    else if (each.do === 'close') opened.splice(each.index, 1)[0]?.channel.close();
    else if (each.do === 'disconnect') model.disconnect();
    else if (each.do === 'heartbeat') model.sendHeartbeat();
    else if (each.do === 'settle') {
      await settled();
    } else if (each.do === 'take over') {
      // An open channel's environment gets the key with which the next channel is opened.
      open('stage');
      await settled();
      model.swap('7', '8');
      await settled();
      open('prod');
      await turns(each.pause);
      for (const id of ids) model.change(id);
    } else await turns(5);
  }
  for (const { channel } of opened) {
    const idOf = (): string => channel.toSnapshot()?.environment_id ?? '';
    await until(
      channel,
      ({ status, environment, features }) =>
        status.state === 'live' &&
        environment === model.nameOf(idOf()).environment &&
        JSON.stringify([...features.values()].sort((one, other) => (one.id < other.id ? -1 : 1))) ===
          JSON.stringify(model.featuresOf(idOf()).sort((one, other) => (one.id < other.id ? -1 : 1))),
    );
  }
  for (const { channel, events } of all) {
    const ofOne = new Set(events.map(({ environment_id: id }) => id));
    expect(ofOne.size).toBeLessThanOrEqual(1);
    const numbers = events.map(({ id }) => Number(id));
    expect(numbers).toEqual([...new Set(numbers)].sort((one, other) => one - other));
    const [id = ''] = ofOne;
    if (resynced.has(id)) continue;
    const isOpen = opened.some((each) => each.channel === channel);
    const last = isOpen ? Infinity : Number(numbers.at(-1));
    const expected = model.eventsOf(id).map((each) => Number(each.id));
    expect(numbers).toEqual(expected.filter((number) => number >= Number(numbers[0]) && number <= last));
  }
  expect(model.violations).toEqual([]);
}

it('a channel that is opened again while two unsubscribe requests are in transit subscribes once', async () => {
  const settle = { do: 'settle' } as const;
  const openStage = { do: 'open', key: 'stage' } as const;
  const closeFirst = { do: 'close', index: 0 } as const;
  // After the swap both channels have the environment 7, and each sends a request of its own.
  const swap = { do: 'swap', id: '7', other: '8' } as const;
  const steps = [settle, swap, settle, openStage, settle, closeFirst, closeFirst, openStage];
  const waits = Array.from({ length: 50 }, () => ({ do: 'wait' }) as const);
  await run(await startFixture(), [...steps, ...waits]);
});

it('a channel keeps the state and the events of its environment through random key changes (property test)', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const fixture = await startFixture();
      await run(fixture, steps);
    }),
    // A run whose channels never become live is reported with its steps.
    { numRuns: 25, plugins: [fc.timeout(120_000)], endOnFailure: true },
  );
});
