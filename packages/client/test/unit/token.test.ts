import { expect, it, onTestFinished, vi } from 'vitest';
import { FlagcastError } from '../../src/index.js';
import { caughtUp } from './scripted-server.js';
import {
  channelArguments,
  startFixture,
  untilConnection,
  untilMessage,
  untilStatus,
  useFastClock,
} from './client-fixture.js';

/** Returns the tokens t1, t2, t3 … */
function tokens(): () => string {
  let count = 0;
  return () => {
    count += 1;
    return `t${count}`;
  };
}

function inMs(ms: number): string {
  return new Date(Date.now() + ms).toISOString();
}

it('the token is refreshed before each expiry on the open connection', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ getToken: tokens() });
  const channel = client.channel(channelArguments);
  const connection = await server.connections.next();
  expect(connection.token).toBe('t1');
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  onTestFinished(() => void vi.useRealTimers());
  connection.hello({ heartbeat_interval_ms: 3_600_000, token_expires_at: inMs(10_000) });
  await connection.received.next();
  const caught = untilMessage(client, 'caught_up');
  connection.send(caughtUp('c1'));
  await caught;
  await vi.advanceTimersByTimeAsync(9_000);
  expect(await connection.received.next()).toEqual({ type: 'auth', token: 't2' });
  const authenticated = untilMessage(client, 'authenticated');
  connection.send({ type: 'authenticated', token_expires_at: inMs(10_000) });
  await authenticated;
  await vi.advanceTimersByTimeAsync(9_000);
  expect(await connection.received.next()).toEqual({ type: 'auth', token: 't3' });
  expect(channel.getState().status).toEqual({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(1);
});

it('a clock difference or a distant expiry does not cause repeated token requests', async () => {
  const { server, connect } = await startFixture();
  const getToken = tokens();
  connect({ getToken }).channel(channelArguments);
  const connection = await server.connections.next();
  // The first expiry is in the past. The second exceeds the maximum delay of a timer, which then fires immediately.
  connection.hello({ token_expires_at: inMs(-3_600_000) });
  await connection.received.next();
  connection.send({ type: 'authenticated', token_expires_at: inMs(100 * 86_400_000) }, caughtUp('c1'));
  // Any other message would have arrived before the response to this.
  connection.send({ type: 'error', code: 'unavailable', message: '', project_id: 'p1', environment_id: '7' });
  expect(await connection.received.next()).toMatchObject({ type: 'subscribe' });
  expect(getToken()).toBe('t2');
});

it('each attempt to connect uses a new token, including after the expiry', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ getToken: tokens() }).channel(channelArguments);
  const first = await server.connections.next();
  await first.accept('c1');
  await untilStatus(channel, 'live');
  first.socket.close(4001, 'token_expired');
  const second = await server.connections.next();
  expect(second.token).toBe('t2');
  expect(await second.accept('c2')).toBe('c1');
  await untilStatus(channel, 'live');
});

it('getToken is called again with backoff after a failure', async () => {
  const { server, connect, errors } = await startFixture();
  const getToken = tokens();
  const channel = connect({
    getToken: async () => {
      const token = getToken();
      if (token !== 't3') throw new Error(`no ${token}`);
      return await Promise.resolve(token);
    },
  }).channel(channelArguments);
  const connection = await server.connections.next();
  expect(connection.token).toBe('t3');
  await connection.accept();
  await untilStatus(channel, 'live');
  expect(errors).toMatchObject([
    { code: 'token_failed', attempt: 1, cause: new Error('no t1') },
    { code: 'token_failed', attempt: 2, cause: new Error('no t2') },
  ]);
});

it('a failed token refresh does not close the connection', async () => {
  useFastClock();
  const { server, connect } = await startFixture();
  const getToken = tokens();
  let report: (error: unknown) => void = () => undefined;
  const reported = new Promise((resolve) => (report = resolve));
  const channel = connect({
    onError: (error) => report(error),
    getToken: () => {
      const token = getToken();
      if (token === 't2') throw new Error('not now');
      return token;
    },
  }).channel(channelArguments);
  const connection = await server.connections.next();
  await connection.accept('c1');
  connection.send({ type: 'authenticated', token_expires_at: inMs(2_500) });
  expect(await reported).toMatchObject({ code: 'token_failed', cause: new Error('not now') });
  expect((await untilStatus(channel, 'live')).status).toEqual({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(1);
});

it.each([true, false])(
  'a FlagcastError from getToken closes the client (thrown synchronously: %s)',
  async (isSynchronous) => {
    const { server, connect } = await startFixture();
    const error = new FlagcastError('signed_out', 'Sign in again');
    const client = connect({
      getToken: () => {
        if (isSynchronous) throw error;
        return Promise.reject(error);
      },
    });
    const channel = client.channel(channelArguments);
    expect(await untilConnection(client, 'closed')).toMatchObject({ state: 'closed', error });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error });
    expect(server.upgrades.all).toHaveLength(0);
  },
);

it('a token that arrives after the client was closed is ignored', async () => {
  const { server, connect } = await startFixture();
  let give: (token: string) => void = () => undefined;
  const client = connect({ getToken: async () => await new Promise<string>((resolve) => (give = resolve)) });
  client.channel(channelArguments);
  await Promise.resolve();
  client.close();
  give('late');
  const other = connect();
  other.channel(channelArguments);
  await server.connections.next();
  expect(server.connections.all.map(({ token }) => token)).toEqual(['token']);
});
