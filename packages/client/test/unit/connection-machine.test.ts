import { CloseCode } from '#protocol';
import { describe, expect, it } from 'vitest';
import {
  backoffMs,
  type ConnectionEvent,
  type ConnectionState,
  initialMachine,
  type Machine,
  transition,
} from '../../src/connection-machine.js';

const nowMs = 1_000_000;
const heartbeatMs = 13_500;
/** Pauses take half of their width. */
const random = 0.5;
/** How late a heartbeat may be. */
const quietMs = 14_850;

/** Returns a machine in this state. Live ones have been connected for a minute, after two failed attempts. */
function machineIn(state: ConnectionState): Machine {
  const helloAtMs = ['live', 'probing', 'silent'].includes(state) ? nowMs - 60_000 : 0;
  return { ...initialMachine, state, helloAtMs, reconnectAttempts: 2 };
}

/** The state that is entered, and the delay of its timer. `stays`: nothing happens. */
type Cell = 'stays' | readonly [ConnectionState, number?];

// A missing state or event is a compile error.
const table: Record<ConnectionState, Record<ConnectionEvent, Cell>> = {
  idle: {
    start: ['authorizing'],
    stop: 'stays',
    end: ['closed'],
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: 'stays',
    timer: 'stays',
    lost: 'stays',
    wake: 'stays',
    reconnect: 'stays',
  },
  authorizing: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: ['connecting', 10_000],
    blocked: 'stays',
    hello: 'stays',
    message: 'stays',
    // No timer runs in this state. If one fires nevertheless, the machine must not get stuck.
    timer: ['waiting', 500],
    lost: ['waiting', 500],
    wake: 'stays',
    reconnect: ['authorizing'],
  },
  connecting: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: ['connecting', 10_000],
    hello: ['live', quietMs],
    message: 'stays',
    timer: ['waiting', 500],
    lost: ['waiting', 500],
    wake: 'stays',
    reconnect: ['authorizing'],
  },
  live: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: ['live', quietMs],
    timer: ['silent', 5_000],
    lost: ['waiting', 125],
    wake: ['probing', 5_000],
    reconnect: ['authorizing'],
  },
  silent: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: ['live', quietMs],
    timer: ['waiting', 125],
    lost: ['waiting', 125],
    wake: 'stays',
    reconnect: ['authorizing'],
  },
  probing: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: ['live', quietMs],
    timer: ['waiting', 125],
    lost: ['waiting', 125],
    // The page was hidden and shown again: any message suffices, but the time-out starts again.
    wake: 'stays',
    reconnect: ['authorizing'],
  },
  waiting: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: 'stays',
    timer: ['authorizing'],
    lost: 'stays',
    wake: ['authorizing'],
    reconnect: ['authorizing'],
  },
  closed: {
    start: 'stays',
    stop: 'stays',
    end: 'stays',
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: 'stays',
    timer: 'stays',
    lost: 'stays',
    wake: 'stays',
    reconnect: 'stays',
  },
};

describe('the connection machine', () => {
  for (const state of Object.keys(table) as ConnectionState[]) {
    for (const event of Object.keys(table[state]) as ConnectionEvent[]) {
      const cell = table[state][event];
      it(`${cell === 'stays' ? 'does not change' : `enters ${cell[0]}`} on ${event} in the state ${state}`, () => {
        const before = machineIn(state);
        const after = transition(before, event, { nowMs, random, heartbeatMs });
        if (cell === 'stays') {
          expect(after).toBe(before);
          return;
        }
        expect(after).not.toBe(before);
        expect([after.state, after.timerMs]).toEqual([cell[0], cell[1]]);
      });
    }
  }
});

/** Returns the machine after these events. A number is the event `lost` with this close code. */
function after(machine: Machine, ...events: (ConnectionEvent | number)[]): Machine {
  let result = machine;
  for (const event of events) {
    result =
      typeof event === 'number'
        ? transition(result, 'lost', { nowMs, random, heartbeatMs, error: { closeCode: event } })
        : transition(result, event, { nowMs, random, heartbeatMs });
  }
  return result;
}

describe('the backoff', () => {
  it('doubles from 250 ms up to 30 s', () => {
    expect([0, 1, 2, 6, 7, 8, 1_000].map((attempts) => backoffMs(attempts))).toEqual([
      250, 500, 1_000, 16_000, 30_000, 30_000, 30_000,
    ]);
  });

  it('doubles between the bounds that the app gives', () => {
    const backoff = { minMs: 1_000, maxMs: 3_000 };
    expect([0, 1, 2].map((attempts) => backoffMs(attempts, backoff))).toEqual([1_000, 2_000, 3_000]);
    const lost = transition(machineIn('connecting'), 'lost', { nowMs, random, heartbeatMs, backoff });
    expect(lost.timerMs).toBe(1_500);
  });

  it('is reset by a connection that was live for ten seconds', () => {
    const connected = after({ ...machineIn('connecting'), reconnectAttempts: 5 }, 'hello');
    const early = transition(connected, 'lost', { nowMs: nowMs + 9_999, random, heartbeatMs });
    expect(early.timerMs).toBe(backoffMs(5) / 2);
    expect(early.reconnectAttempts).toBe(6);
    const stable = transition(connected, 'lost', { nowMs: nowMs + 10_000, random, heartbeatMs });
    expect(stable.timerMs).toBe(backoffMs(0) / 2);
    expect(stable.reconnectAttempts).toBe(1);
  });

  it('spreads the clients of a draining server over two seconds', () => {
    expect(after(machineIn('live'), CloseCode.draining).timerMs).toBe(1_000);
    expect(after({ ...machineIn('connecting'), reconnectAttempts: 5 }, CloseCode.draining).timerMs).toBe(
      backoffMs(5) / 2,
    );
  });

  it('is at least as long as the server requests', () => {
    expect(
      transition(machineIn('connecting'), 'lost', {
        nowMs,
        random,
        heartbeatMs,
        error: { closeCode: CloseCode.unavailable, retryAfterMs: 7_000 },
      }).timerMs,
    ).toBe(7_500);
  });
});

describe('a close code', () => {
  for (const [name, code] of Object.entries(CloseCode)) {
    it(`${code} (${name}) ${code < 4500 ? 'leads to a reconnect' : 'closes the client'}`, () => {
      for (const state of ['connecting', 'live', 'probing'] as const) {
        expect(after(machineIn(state), code).state).toBe(code < 4500 ? 'waiting' : 'closed');
      }
    });
  }
});

describe('the fallback to server-sent events', () => {
  it.each([
    ['before hello', []],
    ['within ten seconds, as behind a proxy that cuts them', ['hello']],
  ] as [string, ConnectionEvent[]][])(
    'starts after three consecutive WebSockets that closed %s',
    (_, events) => {
      let machine = machineIn('connecting');
      for (const usesStreams of [false, false, true]) {
        machine = after(machine, ...events, 'lost');
        expect(machine.usesStreams).toBe(usesStreams);
        machine = after(machine, 'timer', 'token');
      }
    },
  );

  it('does not start after an application close code or a WebSocket that was live for ten seconds', () => {
    const twice = after(machineIn('connecting'), 'lost', 'timer', 'token', 'lost', 'timer', 'token');
    expect(after(twice, CloseCode.unavailable).usesStreams).toBe(false);
    const stable = transition(after(twice, 'hello'), 'lost', { nowMs: nowMs + 10_000, random, heartbeatMs });
    expect(after(stable, 'timer', 'token', 'lost').usesStreams).toBe(false);
  });

  it('starts immediately and stays if no WebSocket can be opened', () => {
    const machine = after(machineIn('connecting'), 'blocked');
    expect(machine.usesStreams).toBe(true);
    const live = after(machine, 'hello');
    expect(transition(live, 'message', { nowMs: nowMs + 1e12, random, heartbeatMs }).state).toBe('live');
  });

  it.each([[], ['hello']] as ConnectionEvent[][])(
    'ends when a stream fails early (after: %s)',
    (...events) => {
      const machine: Machine = { ...machineIn('connecting'), usesStreams: true, webSocketFailures: 3 };
      const failed = after(machine, ...events, 'lost');
      expect([failed.usesStreams, failed.webSocketFailures]).toEqual([false, 0]);
    },
  );

  it('continues when a stream is lost that was live for ten seconds', () => {
    const machine: Machine = { ...machineIn('live'), usesStreams: true, webSocketFailures: 3 };
    expect(after(machine, 'lost').usesStreams).toBe(true);
  });

  it('retries a WebSocket soon, because the server may have been down, and then after intervals that double', () => {
    for (const [webSocketFailures, waitMs] of [
      [3, 3_000],
      [4, 160_000],
      [5, 320_000],
    ] as const) {
      const live: Machine = {
        ...machineIn('live'),
        ...{ usesStreams: true, webSocketFailures, helloAtMs: nowMs, reconnectAttempts: 6 },
      };
      const at = (connectedMs: number, event: ConnectionEvent): Machine =>
        transition(live, event, { nowMs: nowMs + connectedMs, random, heartbeatMs });
      expect(at(waitMs - 1, 'message').timerMs).toBe(1);
      for (const event of ['message', 'timer'] as const) {
        expect(at(waitMs, event)).toMatchObject({ state: 'authorizing', usesStreams: false });
      }
      // One failed WebSocket is enough to return to streams, without a longer pause each time.
      expect(after(at(waitMs, 'message'), 'token', 'lost')).toMatchObject({
        timerMs: 125,
        usesStreams: true,
        webSocketFailures: webSocketFailures + 1,
      });
    }
  });

  it('gives a silent stream the time of another heartbeat and a half, because it cannot be pinged', () => {
    const live: Machine = { ...machineIn('live'), usesStreams: true, webSocketFailures: Infinity };
    expect(after(live, 'timer')).toMatchObject({ state: 'silent', timerMs: 20_250 });
    expect(after(live, 'timer', 'timer').state).toBe('waiting');
  });

  it('reopens the stream when the page is visible again, because a stream cannot be pinged', () => {
    const live: Machine = { ...machineIn('live'), usesStreams: true, webSocketFailures: 3 };
    expect(after(live, 'wake')).toMatchObject({ state: 'authorizing', usesStreams: true });
  });
});
