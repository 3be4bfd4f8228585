import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashPassword, owaspCost } from '../../server/password.js';
import { oneAtATime, SignInAttempts } from '../../server/sign-in-attempts.js';
import { type RestFixture, createRestFixture, send, setPassword } from '../../../server/test/rest-fixture.js';
import { startTestServer, testSecret } from '../../../server/test/server.js';

const demoUsers = [{ username: 'bob', password: 'bob-demo', about: 'switches flags' }];
let rest: RestFixture;

beforeAll(async () => {
  rest = await createRestFixture({ console: { demoUsers }, timeouts: { tokenTtlMs: 60_000 } });
  await setPassword(rest.pool, 'bob', 'correct horse');
  await setPassword(rest.pool, 'erin', 'erin-demo');
  await rest.pool.query(
    `UPDATE users SET password_hash = '$2a$10$abcdefghijklmnopqrstuv' WHERE username = 'carol'`,
  );
  await setPassword(rest.pool, 'dave', 'dave-demo');
  await rest.pool.query(`UPDATE users SET is_active = false WHERE username = 'dave'`);
});

afterAll(async () => {
  await rest.close();
});

describe('signing in', () => {
  it('returns a token that HTTP, WebSockets and streams accept', async () => {
    const beforeMs = Date.now();
    const answer = await rest.ask(null, 'POST', '/api/auth/login', {
      username: 'bob',
      password: 'correct horse',
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const {
      token,
      expires_at: expiresAt,
      user,
    } = answer.body as unknown as {
      token: string;
      expires_at: string;
      user: object;
    };
    expect(user).toStrictEqual({ id: rest.users.bob.id, username: 'bob', is_superuser: false });
    expect(Date.parse(expiresAt)).toBeGreaterThanOrEqual(beforeMs + 59_000);
    expect(Date.parse(expiresAt)).toBeLessThanOrEqual(Date.now() + 60_000);
    const me = await send(rest.server.httpUrl, 'GET', '/api/auth/me', undefined, {
      Authorization: `Bearer ${token}`,
    });
    expect(me.body).toStrictEqual({
      user,
      token_expires_at: expiresAt,
      projects: [
        {
          id: rest.shop.projectId,
          name: 'Shop',
          permissions: ['feature.toggle', 'feature.view', 'project.view'],
        },
      ],
      writes: true,
      decisions: 'direct',
      sign_in: 'password',
      demo_people: demoUsers,
      server: expect.any(String) as string,
      guarantee: 'exact',
      guarantee_reason: 'event_log',
      overlap_ms: null,
    });
  });

  it.each([
    ['a wrong password', { username: 'bob', password: 'wrong' }, '401 invalid_login'],
    ['a space after the password', { username: 'bob', password: 'correct horse ' }, '401 invalid_login'],
    ['a password with other capitals', { username: 'bob', password: 'Correct horse' }, '401 invalid_login'],
    ['a name with other capitals', { username: 'BOB', password: 'correct horse' }, '401 invalid_login'],
    ['an unknown name', { username: 'nobody', password: 'x' }, '401 invalid_login'],
    ['a hash of another scheme', { username: 'carol', password: 'x' }, '401 invalid_login'],
    ['no hash at all', { username: 'root', password: 'x' }, '401 invalid_login'],
    ['a deactivated user', { username: 'dave', password: 'dave-demo' }, '403 user_inactive'],
    ['a deactivated user with a wrong password', { username: 'dave', password: 'x' }, '401 invalid_login'],
    ['an empty body', {}, '400 invalid'],
    ['no password', { username: 'bob', password: '' }, '400 invalid'],
    ['a number', { username: 'bob', password: 7 }, '400 invalid'],
    ['a password of 1,025 characters', { username: 'bob', password: 'x'.repeat(1_025) }, '400 invalid'],
    ['an impossible name', { username: 'b\0b', password: 'x' }, '400 invalid'],
  ])('with %s', async (_, body, expected) => {
    const { status, body: answer } = await rest.ask(null, 'POST', '/api/auth/login', body);
    expect(`${status} ${String(answer.code)}`).toBe(expected);
    expect(JSON.stringify(answer)).not.toContain('dave-demo');
  });

  it('accepts a password of 1,024 characters of any kind', async () => {
    const start = `пароль \u{1F511} '"\\;`;
    const password = start + 'x'.repeat(1_024 - Array.from(start).length);
    await setPassword(rest.pool, 'alice', password);
    const answer = await rest.ask(null, 'POST', '/api/auth/login', { username: 'alice', password });
    expect(answer.status).toBe(200);
  });

  it('costs as much for a name that does not exist, or has another hash, as for a wrong password', async () => {
    const cheap = await hashPassword('x', { N: 2_048, r: 8, p: 1 });
    await rest.pool.query(
      `INSERT INTO users (username, email, password_hash) VALUES ('cheap', 'cheap@example.com', $1)`,
      [cheap],
    );
    const names = ['erin', 'no such user', 'carol', 'root', 'cheap'];
    // Compare the minimum of the processor time, because the elapsed time depends on the load of the machine.
    const leastCost = new Map<string, number>();
    for (let round = 0; round < 2; round += 1) {
      for (const username of names) {
        const before = process.cpuUsage();
        await rest.ask(null, 'POST', '/api/auth/login', { username, password: 'wrong' });
        const { user } = process.cpuUsage(before);
        leastCost.set(username, Math.min(user, leastCost.get(username) ?? user));
      }
    }
    const [known = 0, ...others] = leastCost.values();
    for (const other of others) expect(other / known).toBeGreaterThan(0.5);
  });

  it('is refused after too many attempts on that name, until the window has passed', async () => {
    const attempt = async (username: string, password = 'wrong') =>
      await rest.ask(null, 'POST', '/api/auth/login', { username, password });
    for (let count = 0; count < 10; count += 1) {
      expect(await attempt('mallory')).toMatchObject({ status: 401 });
    }
    const refused = await attempt('mallory');
    expect(refused).toMatchObject({ status: 429, body: { code: 'too_many_attempts' } });
    const seconds = Number(refused.headers.get('retry-after'));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(300);
    expect(await attempt('bob', 'correct horse')).toMatchObject({ status: 200 });
  });

  it('replaces a weak hash if the server may write', async () => {
    const cheap = await hashPassword('erin-demo', { N: 16_384, r: 8, p: 1 });
    const readOnly = await startTestServer(rest.database.url);
    const usual = await startTestServer(rest.database.url, {
      writes: true,
      console: { passwordCost: owaspCost },
    });
    const login = async (httpUrl: string, password: string): Promise<string> => {
      const body = { username: 'erin', password };
      const { status } = await send(httpUrl, 'POST', '/api/auth/login', body);
      const { rows } = await rest.pool.query<{ hash: string }>(
        `SELECT password_hash AS hash FROM users WHERE username = 'erin'`,
      );
      const hash = rows[0]?.hash ?? '';
      return `${status} ${hash === cheap ? 'old' : hash.split('$').slice(0, 4).join('$')}`;
    };
    await rest.pool.query(`UPDATE users SET password_hash = $1 WHERE username = 'erin'`, [cheap]);
    expect(await login(usual.httpUrl, 'wrong')).toBe('401 old');
    expect(await login(readOnly.httpUrl, 'erin-demo')).toBe('200 old');
    expect(await login(usual.httpUrl, 'erin-demo')).toBe('200 scrypt$131072$8$1');
    expect(await login(usual.httpUrl, 'erin-demo')).toBe('200 scrypt$131072$8$1');
    await readOnly.close();
    await usual.close();
  });

  it('is refused with login_elsewhere if another service issues the tokens', async () => {
    const elsewhere = await startTestServer(rest.database.url, {
      auth: {
        jwksUrl: 'http://127.0.0.1:9/keys',
        issuer: 'https://id.example',
        audience: 'flagcast',
        userClaim: 'sub:id',
      },
    });
    const login = { username: 'bob', password: 'correct horse' };
    expect(await send(elsewhere.httpUrl, 'POST', '/api/auth/login', login)).toMatchObject({
      status: 404,
      body: { code: 'login_elsewhere' },
    });
    expect(await send(elsewhere.httpUrl, 'GET', '/api/auth/mode')).toMatchObject({
      status: 200,
      body: { sign_in: 'token', demo_people: [] },
    });
    await elsewhere.close();
  });

  it.each(['userId:id', 'sub:username', 'email:email'])(
    'returns a token with the claims that this server requires, and the user by %s',
    async (userClaim) => {
      const strict = await startTestServer(rest.database.url, {
        auth: {
          secret: testSecret,
          issuer: 'https://flagcast.example',
          audience: 'flagcast',
          userClaim,
          maxTokenAgeMs: 60_000,
        },
      });
      const login = { username: 'bob', password: 'correct horse' };
      const { body } = await send(strict.httpUrl, 'POST', '/api/auth/login', login);
      const me = await send(strict.httpUrl, 'GET', '/api/auth/me', undefined, {
        Authorization: `Bearer ${String(body['token'])}`,
      });
      expect(me).toMatchObject({ status: 200, body: { user: { username: 'bob' } } });
      await strict.close();
    },
  );

  it('lists the users of a demo in the sign-in mode, which needs no token', async () => {
    expect(await rest.ask(null, 'GET', '/api/auth/mode')).toMatchObject({
      body: { sign_in: 'password', demo_people: demoUsers },
    });
    const foreign = { Origin: 'https://evil.example' };
    expect(await rest.ask(null, 'GET', '/api/auth/mode', undefined, foreign)).toMatchObject({
      status: 403,
    });
    const login = { username: 'bob', password: 'correct horse' };
    expect(await rest.ask(null, 'POST', '/api/auth/login', login, foreign)).toMatchObject({ status: 403 });
  });

  it('returns every permission in every project for a superuser', async () => {
    const { body } = await rest.ask('root', 'GET', '/api/auth/me');
    const projects = body['projects'] as { name: string; permissions: string[] }[];
    expect(projects.map(({ name }) => name)).toStrictEqual(['Billing', 'Shop']);
    for (const { permissions } of projects) expect(permissions).toHaveLength(8);
  });
});

describe('the limit of sign-in attempts', () => {
  const take = (attempts: SignInAttempts, username: string, address: string): number =>
    attempts.take({ username, address });
  const make = (): { attempts: SignInAttempts; at: (nowMs: number) => void } => {
    let now = 0;
    const attempts = new SignInAttempts({ limit: 3, windowMs: 1_000, maxKeys: 2, nowMs: () => now });
    return { attempts, at: (nowMs) => (now = nowMs) };
  };

  it('is a sliding window for each name and address', () => {
    const { attempts, at } = make();
    for (const nowMs of [0, 400, 800]) {
      at(nowMs);
      expect(take(attempts, 'eve', 'a')).toBe(0);
    }
    at(900);
    expect(take(attempts, 'eve', 'a')).toBe(100);
    expect(take(attempts, 'eve', 'another address')).toBe(0);
    at(1_000);
    expect(take(attempts, 'eve', 'a')).toBe(0);
    expect(take(attempts, 'eve', 'a')).toBe(400);
  });

  it('applies to all names that an address tries', () => {
    const usual = new SignInAttempts();
    for (let count = 0; count < 100; count += 1) expect(take(usual, `name ${count}`, 'a')).toBe(0);
    expect(take(usual, 'one more', 'a')).toBeGreaterThan(0);
    expect(take(usual, 'one more', 'b')).toBe(0);

    let now = 0;
    const attempts = new SignInAttempts({ addressLimit: 3, windowMs: 1_000, nowMs: () => now });
    for (const username of ['one', 'two', 'three']) expect(take(attempts, username, 'a')).toBe(0);
    expect(take(attempts, 'four', 'a')).toBe(1_000);
    expect(take(attempts, 'four', 'b')).toBe(0);
    now = 1_000;
    expect(take(attempts, 'four', 'a')).toBe(0);
    // Successful sign-ins do not count, for any number of users behind one address.
    for (let count = 0; count < 20; count += 1) {
      expect(take(attempts, `colleague ${count}`, 'c')).toBe(0);
      attempts.succeeded({ username: `colleague ${count}`, address: 'c' });
    }
    // One machine has all of these.
    for (const host of ['1', '2', '3']) expect(take(attempts, host, `2001:db8::${host}`)).toBe(0);
    expect(take(attempts, 'four', '2001:db8::4')).toBe(1_000);
  });

  it('applies to all addresses that try one name, except those it has signed in from', () => {
    let now = 0;
    const attempts = new SignInAttempts({ accountLimit: 4, accountWindowMs: 10_000, nowMs: () => now });
    expect(take(attempts, 'ada', 'home')).toBe(0);
    attempts.succeeded({ username: 'ada', address: 'home' });
    for (const address of ['a', 'b', 'c', 'd']) expect(take(attempts, 'ada', address)).toBe(0);
    now = 1_000;
    expect(take(attempts, 'ada', 'e')).toBe(9_000);
    expect(take(attempts, 'eve', 'e')).toBe(0);
    for (let count = 0; count < 3; count += 1) expect(take(attempts, 'ada', 'home')).toBe(0);
    expect(take(attempts, 'ada', 'e')).toBe(9_000);
    now = 10_000;
    expect(take(attempts, 'ada', 'e')).toBe(0);
    expect(take(attempts, 'ada', 'f')).toBe(1_000);

    const usual = new SignInAttempts({ nowMs: () => now });
    for (let count = 0; count < 50; count += 1) expect(take(usual, 'ada', `address ${count}`)).toBe(0);
    expect(take(usual, 'ada', 'one more')).toBe(3_600_000);
  });

  it('is reset by the right password and remembers a bounded number of pairs', () => {
    const { attempts } = make();
    for (let count = 0; count < 3; count += 1) take(attempts, 'eve', 'a');
    attempts.succeeded({ username: 'eve', address: 'a' });
    for (let count = 0; count < 3; count += 1) expect(take(attempts, 'eve', 'a')).toBe(0);
    take(attempts, 'one', 'a');
    take(attempts, 'two', 'a');
    // The oldest pair made room.
    expect(take(attempts, 'eve', 'a')).toBe(0);
  });
});

describe('a password check that waits for others', () => {
  it('does not count as an attempt when it is refused', async () => {
    const ends: (() => void)[] = [];
    const turns = Array.from({ length: 21 }, async () => {
      await oneAtATime(async () => await new Promise<void>((resolve) => ends.push(resolve)));
    });
    const right = { username: 'bob', password: 'correct horse' };
    for (let attempt = 1; attempt <= 11; attempt += 1) {
      expect(await send(rest.server.httpUrl, 'POST', '/api/auth/login', right)).toMatchObject({
        status: 503,
        body: { code: 'busy' },
      });
    }
    for (const [index, turn] of turns.entries()) {
      ends[index]?.();
      await turn;
    }
    expect(await send(rest.server.httpUrl, 'POST', '/api/auth/login', right)).toMatchObject({
      status: 200,
    });
  });

  it('runs alone, in order, and is refused when too many wait', async () => {
    const order: number[] = [];
    const ends: (() => void)[] = [];
    const turns = Array.from({ length: 21 }, async (_, index) => {
      await oneAtATime(async () => {
        order.push(index);
        await new Promise<void>((resolve) => ends.push(resolve));
      });
    });
    await expect(oneAtATime(async () => await Promise.resolve())).rejects.toMatchObject({
      status: 503,
      code: 'busy',
    });
    for (const [index, turn] of turns.entries()) {
      expect(order).toStrictEqual(Array.from({ length: index + 1 }, (__, each) => each));
      ends[index]?.();
      await turn;
    }
    await expect(oneAtATime(async () => await Promise.resolve('free again'))).resolves.toBe('free again');
    await expect(oneAtATime(async () => await Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    await expect(oneAtATime(async () => await Promise.resolve('still free'))).resolves.toBe('still free');
  });
});
