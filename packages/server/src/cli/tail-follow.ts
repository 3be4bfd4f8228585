import {
  type ChannelChangedMessage,
  CloseCode,
  type FreshnessReason,
  type ResyncMessage,
} from '@flagcast/protocol';
import { type ChannelStatus, createClient, type EventMessage, FlagcastError } from '@flagcast/client';
import { describeError, printable, scrub } from '../describe.js';
import { retry } from '../retry.js';
import { isWorthLogging } from '../operations/log.js';
import { CommandError } from './command.js';
import type { TailOutput } from './tail-output.js';
import { checkToken, findChannel, isFinal, RefusedError, type TailChannel } from './tail-server.js';
import { createTransport } from './tail-transport.js';

export interface FollowOptions {
  readonly serverUrl: URL;
  /** Its id or name. */
  readonly project: string;
  readonly environmentKey: string;
  /** Called for each attempt to connect and ahead of the expiry, so that no connection ends for a lack of it. */
  readonly makeToken: () => Promise<string>;
  readonly line: (event: EventMessage) => string;
  readonly output: TailOutput;
  /** Tells people where it stands, in a few words; not part of the listing. */
  readonly say: (status: string) => void;
  readonly stop: AbortSignal;
}

/**
 * Prints the events of a channel until `stop` is aborted, over whatever connections it takes: those
 * that happened while there was none come afterwards, each once and in order.
 *
 * @throws CommandError when trying again would not help.
 */
export async function follow(options: FollowOptions): Promise<void> {
  const channel = await locate(options);
  if (channel !== null) await watch(options, channel);
}

/** Asks until the server answers; null when it is to stop. */
async function locate(options: FollowOptions): Promise<TailChannel | null> {
  const { serverUrl, makeToken, say, stop } = options;
  return await retry(async () => await findChannel({ serverUrl, token: await makeToken(), stop }, options), {
    signal: stop,
    onRetry: ({ error, attempt }) => {
      if (error instanceof CommandError) throw error;
      if (error instanceof RefusedError && isFinal(error.status)) throw new CommandError(error.message);
      if (isWorthLogging(attempt)) say(`not connected: ${tryingAgain(error)}`);
    },
  });
}

async function watch(options: FollowOptions, found: TailChannel): Promise<void> {
  const { serverUrl, makeToken, line, output, say, stop } = options;
  let farewell = '';
  let lastToken = '';
  let expiredToken = '';
  let lastProblem = '';
  const client = createClient({
    url: new URL('.', serverUrl).href,
    activityLimit: 0,
    getToken: async () => {
      await output.draining;
      const token = await makeToken();
      // Where clocks may differ a little, a server lets an expired token in, and ends it at once.
      if (token === expiredToken) {
        throw new FlagcastError(
          'token_expired',
          'The token has expired; start again with a fresh one (flagcast token makes them)',
        );
      }
      lastToken = token;
      // A close code would tell less than this answer does, and a token that does not change would be
      // offered for ever.
      await checkToken({ serverUrl, token, stop }).catch((error: unknown) => {
        throw error instanceof RefusedError && [401, 403].includes(error.status)
          ? new FlagcastError('token_refused', error.message)
          : error;
      });
      return token;
    },
    onError: (error) => {
      const problem = tryingAgain(error);
      // During an outage each attempt meets the same one.
      if (stop.aborted || problem === lastProblem) return;
      lastProblem = problem;
      say(problem);
    },
    ...createTransport({
      output,
      onOpening: () => (farewell = ''),
      onClose: (code, reason) => {
        if (code === CloseCode.tokenExpired) expiredToken = lastToken;
        // The others are the library's words for a lost connection.
        if (code >= 4000) farewell = ` (close code ${code}: ${printable(reason)})`;
      },
    }),
  });
  client.onMessage((message) => {
    // The client takes a new snapshot and goes on, without a word about what a listing then lacks.
    if (!('type' in message)) return;
    if (message.type === 'resync') {
      say(
        `events are missing here: the server cannot bring all that were missed (${printable((message as ResyncMessage).reason)})`,
      );
    } else if (message.type === 'channel_changed') {
      say(`the environment has a new key: ${printable((message as ChannelChangedMessage).environment)}`);
    }
  });

  const channel = client.channel({ projectId: found.projectId, env: found.environmentKey });
  channel.onEvent((event) => output.write(line(event)));
  const error = await new Promise<FlagcastError | null>((resolve) => {
    let told: ChannelStatus = channel.getState().status;
    let isWatching = false;
    channel.subscribe(() => {
      const { status } = channel.getState();
      if (status === told) return;
      told = status;
      switch (status.state) {
        case 'connecting':
          break;
        case 'catching-up':
          if (isWatching) say('catching up');
          break;
        case 'live':
          say(isWatching ? 'live' : `watching ${printable(found.label)} at ${serverUrl.origin}`);
          isWatching = true;
          lastProblem = '';
          break;
        case 'stale':
          say(
            status.reason === 'disconnected'
              ? `stale since ${clock(status.sinceMs)}, connecting again${farewell}`
              : `stale since ${clock(status.sinceMs)}: ${staleTexts[status.reason]}`,
          );
          break;
        case 'closed':
          resolve(status.error);
      }
    });
    const close = (): void => client.close();
    stop.addEventListener('abort', close, { once: true });
    if (stop.aborted) close();
  });
  if (error === null || stop.aborted) return;
  const code = error.closeCode === undefined ? '' : ` (close code ${error.closeCode})`;
  throw new CommandError(`${scrub(error.message)}${code}`);
}

const staleTexts: Readonly<Record<FreshnessReason, string>> = {
  database_unreachable: 'the server does not reach its database',
  read_failed: 'the database refuses the server to read events',
  read_overdue: 'the database does not answer the server in time',
  triggers_missing: 'the triggers that log events are missing in the database',
};

function tryingAgain(error: unknown): string {
  // fetch says no more than "fetch failed"; the reason is its cause.
  const reason = error instanceof TypeError && error.cause instanceof Error ? error.cause : error;
  return `${describeError(reason)}; trying again`;
}

/** The time of day here: `14:02:11`. */
function clock(timeMs: number): string {
  return new Date(timeMs).toTimeString().slice(0, 8);
}
