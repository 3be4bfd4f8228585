import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { describeError } from '../../src/describe.js';
import { Lifecycle } from '../../src/lifecycle.js';
import { createLogger, logEvents, logLifecycle } from '../../src/operations/log.js';

function logging(human = false): { lifecycle: Lifecycle; text: () => string; events: () => unknown[] } {
  let text = '';
  const lifecycle = new Lifecycle();
  const output = {
    write: (line: string) => {
      text += line;
    },
  };
  logLifecycle(createLogger({ human, output }), lifecycle);
  const lines = (): string[] => text.split('\n').filter((line) => line !== '');
  return { lifecycle, text: () => text, events: () => lines().map((line) => JSON.parse(line) as unknown) };
}

describe('the log', () => {
  it('logs an outage with growing gaps, and its end', () => {
    const { lifecycle, events } = logging();
    for (let attempt = 1; attempt <= 20; attempt += 1) {
      lifecycle.emit('reader:failed', { error: new Error('down'), attempt, retryInMs: 100 });
    }
    lifecycle.emit('reader:recovered', { attempts: 20, downMs: 60_000 });
    expect(events()).toMatchObject([
      ...[1, 2, 4, 8, 16].map((attempt) => ({
        level: 'warn',
        event: 'reader_failed',
        attempt,
        error: 'down',
      })),
      { level: 'info', event: 'reader_recovered', downMs: 60_000 },
    ]);
  });

  it('logs a failure of many requests once', () => {
    const { lifecycle, events } = logging();
    for (let request = 0; request < 100; request += 1) {
      lifecycle.emit('access:failed', { error: new Error('down') });
    }
    expect(events()).toHaveLength(1);
  });

  it('samples refusals by code and logs the number of the others, so that clients cannot fill the log', () => {
    vi.useFakeTimers();
    try {
      const { lifecycle, events } = logging();
      const refuse = (code: string, times: number): void => {
        for (let count = 0; count < times; count += 1) {
          lifecycle.emit('connection:refused', {
            status: 401,
            code,
            message: '',
            address: `192.0.2.${count}`,
          });
        }
      };
      refuse('token_missing', 1_000);
      refuse('token_invalid', 1);
      const line = { event: 'connection_refused', level: 'info', status: 401 };
      const first = [0, 1, 2, 3, 4].map((count) => ({
        ...line,
        code: 'token_missing',
        address: `192.0.2.${count}`,
      }));
      const other = { ...line, code: 'token_invalid', address: '192.0.2.0' };
      expect(events()).toMatchObject([...first, other]);
      vi.advanceTimersByTime(10_000);
      const summary = { ...line, code: 'token_missing', unlogged: 995 };
      expect(events()).toMatchObject([...first, other, summary]);
      vi.advanceTimersByTime(60_000);
      refuse('token_missing', 1);
      expect(events()).toHaveLength(8);
    } finally {
      vi.useRealTimers();
    }
  });

  it('holds no password and no token', () => {
    const { lifecycle, text } = logging();
    const error = new TypeError('Invalid URL: postgres://u:hunter2@p@ss@db/x?password=hunter2');
    lifecycle.emit('reader:failed', {
      error: Object.assign(error, { input: 'hunter2' }),
      attempt: 1,
      retryInMs: 1,
    });
    lifecycle.emit('access:failed', { error: new Error('bad eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln') });
    expect(text()).toContain('Invalid URL: postgres://[redacted]@db/x');
    expect(text()).not.toMatch(/hunter2|p@ss|eyJ|stack/);
  });

  it('replaces characters that change the direction of text or steer a terminal', () => {
    const { lifecycle, events } = logging();
    const reason = 'user \u202eeve\u2066 \u200b\u009b31m';
    lifecycle.emit('reader:started', { reason } as never);
    expect(events()).toMatchObject([
      { event: 'reader_started', reason: 'user \ufffdeve\ufffd \ufffd\ufffd31m' },
    ]);
  });

  it('writes one short line per event on a terminal, with any message', () => {
    const { lifecycle, text } = logging(true);
    lifecycle.emit('reader:history-lost', { reason: 'restored\n\x1b[2J?' });
    expect(text()).toMatch(/^\d\d:\d\d:\d\d ERROR reader history lost reason="restored [^\x1b\n]*\?"\n$/);
  });
});

describe('the events of the log', () => {
  it('are each logged in one place', () => {
    // Of the commands, and of the embedded demo.
    const sources = ['../../src/', '../../../demo/src/']
      .map((folder) => new URL(folder, import.meta.url))
      .flatMap((folder) =>
        readdirSync(folder, { recursive: true, encoding: 'utf8' })
          .filter((file) => file.endsWith('.ts') && !file.endsWith('/log.ts'))
          .map((file) => readFileSync(new URL(file, folder), 'utf8')),
      )
      .join('\n');
    const logged = [...sources.matchAll(/logger\(\s*'(\w+)'/g)].map(([, name = '']) => name);
    const commandEvents = Object.entries(logEvents).filter(([, { on }]) => on === null);
    expect(logged.toSorted()).toEqual(commandEvents.map(([event]) => event).toSorted());
    for (const [event, { on }] of Object.entries(logEvents)) {
      if (on !== null) expect(on.replaceAll(/[:-]/g, '_')).toBe(event);
    }
  });

  it('include the lifecycle events, without the frequent ones', () => {
    const { lifecycle, events } = logging();
    lifecycle.emit('connection:refused', {
      status: 401,
      code: 'token_expired',
      message: '',
      address: '192.0.2.1',
    });
    lifecycle.emit('request:refused', { status: 401, code: 'token_expired' });
    lifecycle.emit('connection:paused', { dialect: 'plain' });
    expect(events()).toMatchObject([{ level: 'info', event: 'connection_refused', code: 'token_expired' }]);
  });
});

describe('an error in one line', () => {
  it('has the code of the system or of PostgreSQL once, and every message', () => {
    expect(describeError(Object.assign(new Error('no\nway'), { code: '28P01' }))).toBe('28P01: no way');
    expect(describeError(Object.assign(new Error('connect ECONNREFUSED x'), { code: 'ECONNREFUSED' }))).toBe(
      'connect ECONNREFUSED x',
    );
    expect(describeError(new AggregateError([new Error('one'), new Error('two')]))).toBe('one; two');
    expect(describeError(Object.assign(new Error('ours'), { code: 'held' }))).toBe('ours');
    expect(describeError('text')).toBe('text');
  });

  it('keeps the example of a URL in an advice', () => {
    const advice = 'give postgresql://user:password@host:5432/database, or a pool';
    expect(describeError(new Error(advice))).toBe(advice);
  });

  it.each(['a.', 'a://', '://', 'eyJ', 'token=', ' a', '@'])(
    'takes linear time with 64 kB of %j, because PostgreSQL repeats statements',
    (piece) => {
      const text = piece.repeat(65_536 / piece.length);
      // Processor time does not depend on the load of the machine.
      const tookUs = Array.from({ length: 3 }, () => {
        const before = process.cpuUsage();
        describeError(new Error(text));
        return process.cpuUsage(before).user;
      });
      expect(Math.min(...tookUs)).toBeLessThan(250_000);
    },
  );

  it('shows no password, with any text around the URL and in the password', () => {
    for (const url of ['postgres://u:hunter2@h/db', 'x=postgres://u:a@b://hunter2@h/db', '://hunter2@h']) {
      const text = describeError(new Error(`(${url}) refused, see https://example.com/help`));
      expect(text).toContain('://[redacted]@h');
      expect(text).toContain('https://example.com/help');
      expect(text).not.toContain('hunter2');
    }
  });
});
