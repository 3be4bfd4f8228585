import { type CloseCode, isReconnectCode } from '#protocol';

/**
 * The connection's decisions, apart from its I/O: state x event -> state. It has no timer, clock or dice of
 * its own: the time is an argument, and a delay comes with the width of the jitter that the caller rolls.
 */

/**
 * To enter a state, also the one that it is in already, has an effect, which is the caller's to bring about:
 *
 * | state         | meaning                                        | effect of entering it               |
 * | ------------- | ---------------------------------------------- | ----------------------------------- |
 * | `idle`        | no channel is wanted                           | drop the line                       |
 * | `authorizing` | waiting for a token                            | drop the line, ask for a token      |
 * | `connecting`  | no `hello` yet                                 | open a line, as `streaming` says    |
 * | `live`        | `hello` has come                               | none                                |
 * | `probing`     | live, but was away: it has to prove itself     | send a ping                         |
 * | `waiting`     | the backoff before the next attempt            | drop the line                       |
 * | `closed`      | for good                                       | drop the line                       |
 *
 * To drop the line is also to forget a token that is still on its way.
 */
export type ConnectionState =
  | 'idle'
  | 'authorizing'
  | 'connecting'
  | 'live'
  | 'probing'
  | 'waiting'
  | 'closed';

/**
 * - `start`, `stop`: the first channel is wanted, no channel is wanted any more
 * - `end`: the owner ends it, or there will be no token
 * - `token`: the token has come
 * - `blocked`: there are no WebSockets here
 * - `hello`, `message`: from the server; `message` is any other one
 * - `timer`: the machine's timer has run down
 * - `lost`: the line or the network has gone, or no token came
 * - `wake`: the network or the page has come back
 */
export type ConnectionEvent =
  | 'start'
  | 'stop'
  | 'end'
  | 'token'
  | 'blocked'
  | 'hello'
  | 'message'
  | 'timer'
  | 'lost'
  | 'wake';

export interface Machine {
  readonly state: ConnectionState;
  /**
   * The event `timer` is due `delayMs`, and an even share of `jitterMs`, after the state was entered.
   * undefined: never.
   */
  readonly timer?: readonly [delayMs: number, jitterMs: number] | undefined;
  /** Connections lost since the last one that held: the exponent of the backoff. */
  readonly losses: number;
  /** WebSockets in a row that ended before `hello`; Infinity where there are none to be had. */
  readonly strikes: number;
  /** The line, or the next one, is server-sent events in place of a WebSocket. */
  readonly streaming: boolean;
  /** When this line's `hello` came, in milliseconds since the epoch. */
  readonly helloAtMs: number;
}

export const initialMachine: Machine = {
  state: 'idle',
  losses: 0,
  strikes: 0,
  streaming: false,
  helloAtMs: 0,
};

/** From opening a line until its `hello`. */
export const attemptTimeoutMs = 10_000;
const probeTimeoutMs = 5_000;
const stableAfterMs = 10_000;
const draining: typeof CloseCode.draining = 4000;
const drainSpreadMs = 2_000;
const strikesAllowed = 3;

/** The width of the full jitter before the attempt that follows `losses` losses, in milliseconds. */
export function backoffMs(losses: number): number {
  return Math.min(250 * 2 ** losses, 30_000);
}

/**
 * The machine after the event. The same object: nothing happens. Another one: its state is entered.
 * `durationMs`: of `hello` and `message`, how long the line may be silent from here on; of `lost`, how long
 * the server asks to wait. `code`: of `lost`, the close code; 0 where there is none.
 */
export function transition(
  machine: Machine,
  event: ConnectionEvent,
  nowMs: number,
  durationMs = 0,
  code = 0,
): Machine {
  const { state, streaming, strikes, helloAtMs } = machine;
  const up = helloAtMs;
  const heldMs = nowMs - helloAtMs;
  const enter = (next: ConnectionState, timer?: Machine['timer'], changes?: Partial<Machine>): Machine => ({
    ...machine,
    helloAtMs: 0,
    ...changes,
    state: next,
    timer,
  });

  if (state === 'closed') return machine;
  if (event === 'end' || !isReconnectCode(code)) return enter('closed');
  if (event === 'stop') return state === 'idle' ? machine : enter('idle');
  if (state === 'idle') return event === 'start' ? enter('authorizing') : machine;
  if (event === 'token' && state === 'authorizing') return enter('connecting', [attemptTimeoutMs, 0]);
  if (state === 'connecting') {
    if (event === 'blocked')
      return enter(state, [attemptTimeoutMs, 0], { streaming: true, strikes: Infinity });
    if (event === 'hello') {
      return enter('live', [durationMs, 0], { helloAtMs: nowMs, strikes: streaming ? strikes : 0 });
    }
  }
  if (event === 'message' && up) {
    // Streams are second best. The more often WebSockets have failed, the longer until they are tried again.
    return streaming && heldMs > 10_000 * 2 ** strikes
      ? enter('authorizing', undefined, { streaming: false })
      : enter('live', [durationMs, 0], { helloAtMs });
  }
  if (event === 'wake' && up && !streaming) return enter('probing', [probeTimeoutMs, 0], { helloAtMs });
  const retry = state === 'waiting' && (event === 'timer' || event === 'wake');
  // A stream cannot be asked whether it is alive: it is opened anew.
  if (retry || (up && event === 'wake')) return enter('authorizing');
  if (state === 'waiting' || (event !== 'lost' && event !== 'timer')) return machine;

  const losses = up && heldMs >= stableAfterMs ? 0 : machine.losses;
  const jitterMs = Math.max(backoffMs(losses), code === draining ? drainSpreadMs : 0);
  // A close code of the server's own proves that WebSockets get through; streams that fail too say that it is
  // not the WebSockets.
  const struck = state !== 'connecting' || code >= 4000 ? strikes : streaming ? 0 : strikes + 1;
  return enter('waiting', [durationMs, jitterMs], {
    losses: losses + 1,
    strikes: struck,
    streaming: struck >= strikesAllowed,
  });
}
