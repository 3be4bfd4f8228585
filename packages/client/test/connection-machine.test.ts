import { CloseCode } from '#protocol';
import { describe, expect, it } from 'vitest';
import {
  backoffMs,
  type ConnectionEvent,
  type ConnectionState,
  initialMachine,
  type Machine,
  transition,
} from '../src/connection-machine.js';

const nowMs = 1_000_000;
const silenceMs = 37_500;

/** A machine in each state; live ones have held for a minute, and two connections were lost before. */
function machineIn(state: ConnectionState): Machine {
  const helloAtMs = state === 'live' || state === 'probing' ? nowMs - 60_000 : 0;
  return { ...initialMachine, state, helloAtMs, reconnectAttempts: 2 };
}

/** The state that is entered, and its timer: `[delayMs, jitterMs]`. `stays`: nothing happens at all. */
type Cell = 'stays' | readonly [ConnectionState, (readonly [number, number])?];

// A state or an event without its cell does not compile.
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
  },
  authorizing: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: ['connecting', [10_000, 0]],
    blocked: 'stays',
    hello: 'stays',
    message: 'stays',
    // No timer runs in this state; one that fired all the same must not leave it waiting for ever.
    timer: ['waiting', [0, 1_000]],
    lost: ['waiting', [0, 1_000]],
    wake: 'stays',
  },
  connecting: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: ['connecting', [10_000, 0]],
    hello: ['live', [silenceMs, 0]],
    message: 'stays',
    timer: ['waiting', [0, 1_000]],
    lost: ['waiting', [0, 1_000]],
    wake: 'stays',
  },
  live: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: ['live', [silenceMs, 0]],
    timer: ['waiting', [0, 250]],
    lost: ['waiting', [0, 250]],
    wake: ['probing', [5_000, 0]],
  },
  probing: {
    start: 'stays',
    stop: ['idle'],
    end: ['closed'],
    token: 'stays',
    blocked: 'stays',
    hello: 'stays',
    message: ['live', [silenceMs, 0]],
    timer: ['waiting', [0, 250]],
    lost: ['waiting', [0, 250]],
    // The page hides and comes back: the first answer will do, but it has its time anew.
    wake: ['probing', [5_000, 0]],
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
  },
};

describe('every event in every state', () => {
  for (const state of Object.keys(table) as ConnectionState[]) {
    for (const event of Object.keys(table[state]) as ConnectionEvent[]) {
      const cell = table[state][event];
      it(`${state}, ${event}: ${cell === 'stays' ? cell : cell[0]}`, () => {
        const before = machineIn(state);
        const durationMs = event === 'hello' || event === 'message' ? silenceMs : 0;
        const after = transition(before, event, { nowMs, durationMs });
        if (cell === 'stays') {
          expect(after).toBe(before);
          return;
        }
        expect(after).not.toBe(before);
        expect([after.state, after.timer]).toEqual([cell[0], cell[1]]);
      });
    }
  }
});

/** The machine after these events; `lost` with the code where there is one. */
function after(machine: Machine, ...events: (ConnectionEvent | number)[]): Machine {
  let result = machine;
  for (const event of events) {
    result =
      typeof event === 'number'
        ? transition(result, 'lost', { nowMs, closeCode: event })
        : transition(result, event, { nowMs, durationMs: silenceMs });
  }
  return result;
}

describe('backoff', () => {
  it('doubles from 250 ms to 30 s', () => {
    expect([0, 1, 2, 6, 7, 8, 1_000].map(backoffMs)).toEqual([
      250, 500, 1_000, 16_000, 30_000, 30_000, 30_000,
    ]);
  });

  it('begins anew only after ten seconds with hello', () => {
    const connected = after({ ...machineIn('connecting'), reconnectAttempts: 5 }, 'hello');
    const early = transition(connected, 'lost', { nowMs: nowMs + 9_999 });
    expect(early.timer).toEqual([0, backoffMs(5)]);
    expect(early.reconnectAttempts).toBe(6);
    const stable = transition(connected, 'lost', { nowMs: nowMs + 10_000 });
    expect(stable.timer).toEqual([0, backoffMs(0)]);
    expect(stable.reconnectAttempts).toBe(1);
  });

  it('spreads the clients of a draining server over two seconds', () => {
    expect(after(machineIn('live'), CloseCode.draining).timer).toEqual([0, 2_000]);
    expect(after({ ...machineIn('connecting'), reconnectAttempts: 5 }, CloseCode.draining).timer).toEqual([
      0,
      backoffMs(5),
    ]);
  });

  it('waits at least as long as the server asks', () => {
    expect(
      transition(machineIn('connecting'), 'lost', {
        nowMs,
        durationMs: 7_000,
        closeCode: CloseCode.unavailable,
      }).timer,
    ).toEqual([7_000, 1_000]);
  });
});

describe('close codes', () => {
  for (const [name, code] of Object.entries(CloseCode)) {
    it(`${name} ${code < 4500 ? 'reconnects' : 'ends it'}`, () => {
      for (const state of ['connecting', 'live', 'probing'] as const) {
        expect(after(machineIn(state), code).state).toBe(code < 4500 ? 'waiting' : 'closed');
      }
    });
  }
});

describe('server-sent events', () => {
  it('are taken after three WebSockets in a row that ended before hello', () => {
    let machine = machineIn('connecting');
    for (const usesStreams of [false, false, true]) {
      machine = after(machine, 'lost');
      expect(machine.usesStreams).toBe(usesStreams);
      machine = after(machine, 'timer', 'token');
    }
  });

  it('are not taken when the server itself closed, nor after a WebSocket that said hello', () => {
    const twice = after(machineIn('connecting'), 'lost', 'timer', 'token', 'lost', 'timer', 'token');
    expect(after(twice, CloseCode.unavailable).usesStreams).toBe(false);
    expect(after(twice, 'hello', 'lost', 'timer', 'token', 'lost').usesStreams).toBe(false);
  });

  it('are taken at once where there are no WebSockets, and never left', () => {
    const machine = after(machineIn('connecting'), 'blocked');
    expect(machine.usesStreams).toBe(true);
    const live = after(machine, 'hello');
    expect(transition(live, 'message', { nowMs: nowMs + 1e12, durationMs: silenceMs }).state).toBe('live');
  });

  it('give way to WebSockets when they fail themselves', () => {
    const machine: Machine = { ...machineIn('connecting'), usesStreams: true, webSocketFailures: 3 };
    const failed = after(machine, 'lost');
    expect([failed.usesStreams, failed.webSocketFailures]).toEqual([false, 0]);
  });

  it('stay the way when they are lost after hello', () => {
    const machine: Machine = { ...machineIn('live'), usesStreams: true, webSocketFailures: 3 };
    expect(after(machine, 'lost').usesStreams).toBe(true);
  });

  it('make room for a WebSocket once in a while, ever more seldom', () => {
    const waits = [3, 4, 5].map((webSocketFailures) => {
      const live: Machine = { ...machineIn('live'), usesStreams: true, webSocketFailures, helloAtMs: nowMs };
      const waitMs = 10_000 * 2 ** webSocketFailures;
      expect(transition(live, 'message', { nowMs: nowMs + waitMs, durationMs: silenceMs }).state).toBe(
        'live',
      );
      const leaving = transition(live, 'message', { nowMs: nowMs + waitMs + 1, durationMs: silenceMs });
      expect([leaving.state, leaving.usesStreams]).toEqual(['authorizing', false]);
      // One failure is enough to come back.
      expect(after(leaving, 'token', 'lost')).toMatchObject({
        usesStreams: true,
        webSocketFailures: webSocketFailures + 1,
      });
      return waitMs;
    });
    expect(waits).toEqual([80_000, 160_000, 320_000]);
  });

  it('are opened anew when the page comes back: they cannot be asked whether they live', () => {
    const live: Machine = { ...machineIn('live'), usesStreams: true, webSocketFailures: 3 };
    expect(after(live, 'wake')).toMatchObject({ state: 'authorizing', usesStreams: true });
  });
});
