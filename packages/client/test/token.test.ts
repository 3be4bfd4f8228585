import { expect, it } from 'vitest';
import { FlagcastError } from '../src/index.js';
import { caughtUp } from './scripted-server.js';
import { channelArguments, startScene, untilConnection, untilStatus } from './watching.js';

/** Tokens t1, t2, t3 … */
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

it('is renewed in place ahead of its expiry, again and again', async () => {
  const { server, client } = await startScene();
  const channel = client({ getToken: tokens() }).channel(channelArguments);
  const peer = await server.peers.next();
  expect(peer.token).toBe('t1');
  const expiresAtMs = Date.now() + 1_300;
  peer.hello({ token_expires_at: new Date(expiresAtMs).toISOString() });
  await peer.received.next();
  peer.send(caughtUp('c1'));
  expect(await peer.received.next()).toEqual({ type: 'auth', token: 't2' });
  expect(Date.now()).toBeLessThan(expiresAtMs);
  peer.send({ type: 'authenticated', token_expires_at: inMs(1_300) });
  expect(await peer.received.next()).toEqual({ type: 'auth', token: 't3' });
  expect((await untilStatus(channel, 'live')).status).toEqual({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(1);
});

it('is not asked for over and over where the clocks differ, nor with an expiry far away', async () => {
  const { server, client } = await startScene();
  const getToken = tokens();
  client({ getToken }).channel(channelArguments);
  const peer = await server.peers.next();
  // The first would be due at once; the second is past the longest delay of a timer, which fires at once.
  peer.hello({ token_expires_at: inMs(-3_600_000) });
  await peer.received.next();
  peer.send({ type: 'authenticated', token_expires_at: inMs(100 * 86_400_000) }, caughtUp('c1'));
  // Whatever had been sent would have come before this.
  peer.send({ type: 'error', code: 'unavailable', message: '', project_id: 'p1', environment_id: '7' });
  expect(await peer.received.next()).toMatchObject({ type: 'subscribe' });
  expect(getToken()).toBe('t2');
});

it('is asked for anew on each attempt, and after its expiry', async () => {
  const { server, client } = await startScene();
  const channel = client({ getToken: tokens() }).channel(channelArguments);
  const first = await server.peers.next();
  await first.accept('c1');
  await untilStatus(channel, 'live');
  first.socket.close(4001, 'token_expired');
  const second = await server.peers.next();
  expect(second.token).toBe('t2');
  expect(await second.accept('c2')).toBe('c1');
  await untilStatus(channel, 'live');
});

it('is asked for again, with backoff, when getToken fails', async () => {
  const { server, client, errors } = await startScene();
  const getToken = tokens();
  const channel = client({
    getToken: async () => {
      const token = getToken();
      if (token !== 't3') throw new Error(`no ${token}`);
      return await Promise.resolve(token);
    },
  }).channel(channelArguments);
  const peer = await server.peers.next();
  expect(peer.token).toBe('t3');
  await peer.accept();
  await untilStatus(channel, 'live');
  expect(errors).toEqual([new Error('no t1'), new Error('no t2')]);
});

it('that is not to be had when the old one expires leaves the line as it is', async () => {
  const { server, client } = await startScene();
  const getToken = tokens();
  let report: (error: unknown) => void = () => undefined;
  const reported = new Promise((resolve) => (report = resolve));
  const channel = client({
    onError: (error) => report(error),
    getToken: () => {
      const token = getToken();
      if (token === 't2') throw new Error('not now');
      return token;
    },
  }).channel(channelArguments);
  const peer = await server.peers.next();
  await peer.accept('c1');
  peer.send({ type: 'authenticated', token_expires_at: inMs(1_300) });
  expect(await reported).toEqual(new Error('not now'));
  expect((await untilStatus(channel, 'live')).status).toEqual({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(1);
});

it.each([true, false])(
  'ends the client when getToken throws a FlagcastError (at once: %s)',
  async (atOnce) => {
    const { server, client } = await startScene();
    const error = new FlagcastError('signed_out', 'Sign in again');
    const own = client({
      getToken: () => {
        if (atOnce) throw error;
        return Promise.reject(error);
      },
    });
    const channel = own.channel(channelArguments);
    expect(await untilConnection(own, 'closed')).toEqual({ state: 'closed', error });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error });
    expect(server.upgrades.all).toHaveLength(0);
  },
);

it('that comes after the client was closed is not used', async () => {
  const { server, client } = await startScene();
  let give: (token: string) => void = () => undefined;
  const own = client({ getToken: async () => await new Promise<string>((resolve) => (give = resolve)) });
  own.channel(channelArguments);
  await Promise.resolve();
  own.close();
  give('late');
  const other = client();
  other.channel(channelArguments);
  await server.peers.next();
  expect(server.peers.all.map(({ token }) => token)).toEqual(['token']);
});
