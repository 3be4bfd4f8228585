import { createTrustedProxies } from '../../packages/server/dist/access/trusted-proxies.js';
import { createOriginPolicy } from '../../packages/server/dist/access/origin.js';
import {
  redactUrl,
  subprotocolsOf,
  tokenFromRequest,
} from '../../packages/server/dist/access/request-token.js';
import { createTokenVerifier } from '../../packages/server/dist/access/token.js';
import { TokenError } from '../../packages/server/dist/access/token-error.js';
import { loadConfig } from '../../packages/server/dist/config/config.js';
import { ConfigError } from '../../packages/server/dist/config/config-error.js';
import { scrub } from '../../packages/server/dist/describe.js';
import {
  asksForChannel,
  channelFromQuery,
  cursorFromQuery,
  RefusedError,
} from '../../packages/server/dist/door/door.js';
import {
  covers,
  decodeCursor,
  encodeCursor,
  maxId,
  uncoveredRanges,
} from '../../packages/server/dist/events/position.js';
import { parseAuditPlace } from '../../packages/server/dist/http/audit-place.js';
import { parseClientMessage } from '../../packages/server/dist/wire/client-message.js';
import { textFrame } from '../../packages/server/dist/wire/frame.js';
import { answerPlain } from '../../packages/server/dist/wire/plain-input.js';
import { FrameReader } from '../../bench/load/frames.js';
import { corpora } from './corpus.js';
import { receiveAsClient } from './client.js';

/**
 * A parser under test. `run` throws when the parser does, or when it breaks a promise; a refusal in the
 * parser's own words is none. One whose `run` is slow gets fewer inputs: one in `rarity`.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly corpus: readonly Buffer[],
 *   readonly rarity?: number,
 *   readonly run: (bytes: Buffer) => void | Promise<void>,
 * }} Parser
 */

/** @param {string} problem */
function broken(problem) {
  return new Error(`a promise is broken: ${problem}`);
}

const controls = /[\p{Cc}\p{Cf}]/u;
const originPolicy = createOriginPolicy(['https://flags.example.com']);
const { clientAddress } = createTrustedProxies(['10.0.0.0/8', '127.0.0.1', '::1']);
const verifier = createTokenVerifier({ secret: 'a secret that is thirty-two bytes long' });
const socket = { remoteAddress: '127.0.0.1' };
/** Of which the value never shows in what is said about it: it may hold a password. */
const secretSettings = ['DATABASE_URL', 'FLAGCAST_LISTEN_URL', 'FLAGCAST_JWT_SECRET', 'FLAGCAST_JWKS_URL'];
/** What the message shows in its place. */
const example = 'postgresql://user:password@host:5432/database';
const otherSettings = [
  'FLAGCAST_JWT_USER_CLAIM',
  'FLAGCAST_JWT_MAX_AGE',
  'PORT',
  'HOST',
  'FLAGCAST_POLL_INTERVAL',
  'FLAGCAST_WORKERS',
  'FLAGCAST_VIEW',
  'FLAGCAST_OVERLAP',
  'FLAGCAST_ALLOWED_ORIGINS',
  'FLAGCAST_QUERY_TOKEN',
  'FLAGCAST_EVENT_TYPES',
  'FLAGCAST_TRUSTED_PROXIES',
  'FLAGCAST_WRITES',
  'FLAGCAST_MAX_CONNECTIONS_PER_USER',
];

/** @param {() => unknown} parse */
function orRefusal(parse) {
  try {
    parse();
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    const { status, code, message } = error.refusal;
    if (status !== 400 || !/^[a-z_]+$/.test(code) || controls.test(message)) throw broken('the refusal');
  }
}

/** @param {Buffer} bytes */
function checkSettings(bytes) {
  const value = bytes.toString('utf8');
  for (const names of [secretSettings, otherSettings]) {
    const name = /** @type {string} */ (names[value.length % names.length]);
    try {
      loadConfig({ FLAGCAST_DATA_DIR: '/', [name]: value }, {});
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      // Problems come one a line, and this one setting has one, beside what it would need others for.
      const lines = error.message.split('\n');
      if (lines.some((line) => !/^[A-Z]\w+\b/.test(line)) || lines.length > 2) {
        throw broken(`what is wrong with ${name} is told in several lines`);
      }
      const isSecret = names === secretSettings && value.length > 12 && !example.includes(value);
      if (isSecret && error.message.includes(value))
        throw broken(`what is wrong with ${name} shows its value`);
    }
  }
}

/** @param {Buffer} bytes */
function checkFrame(bytes) {
  const text = bytes.toString('utf8');
  /** @type {string[]} */
  const read = [];
  const reader = new FrameReader((opcode, framed, start, end) => {
    if (opcode === 1) read.push(framed.toString('utf8', start, end));
  });
  reader.read(textFrame(text));
  if (read.length !== 1 || read[0] !== text || reader.rest !== null)
    throw broken('the frame does not hold the text');
}

/** @param {Buffer} bytes */
function checkRequest(bytes) {
  // As node:http gives headers: of the control characters it lets only the tab through.
  const text = bytes.toString('latin1').replace(/[\0-\x08\n-\x1f\x7f]/g, '');
  for (const headers of [{ authorization: text }, { 'sec-websocket-protocol': text }, {}]) {
    const found = tokenFromRequest({ headers, url: text }, { allowQueryToken: true });
    // What else the URL holds may be a part of the token by chance.
    const once = found?.via === 'query' && text.split(found.token).length === 2 && found.token.length > 12;
    if (once && redactUrl(text).includes(found.token)) throw broken('the log would show a token');
    if (subprotocolsOf({ headers }).some((name) => /^(bearer|token)\./.test(name))) {
      throw broken('a token would be taken for a subprotocol');
    }
  }
  originPolicy.isAllowed({ headers: { origin: text, host: 'flags.example.com' }, socket: {} });
  if (!/^[\da-f.:]+$/i.test(clientAddress({ headers: { 'x-forwarded-for': text }, socket }))) {
    throw broken('that is no address');
  }
}

/** @type {readonly Parser[]} */
export const parsers = [
  {
    name: 'message of a flagcast.v1 client',
    corpus: corpora.clientMessages,
    run: (bytes) => {
      const parsed = parseClientMessage(bytes.toString('utf8'));
      if ('problem' in parsed ? !/^[\w ,:]{5,80}$/.test(parsed.problem) : !/^\w+$/.test(parsed.type)) {
        throw broken('neither a message nor a problem of one line');
      }
    },
  },
  {
    name: 'message of a plain client',
    corpus: corpora.clientMessages,
    run: (bytes) => {
      const answer = answerPlain(bytes);
      if (answer !== null && answer.length > 100) throw broken('a pong is short');
    },
  },
  {
    name: 'cursor',
    corpus: corpora.cursors,
    run: (bytes) => void decodeCursor(bytes.toString('utf8')),
  },
  {
    name: 'fields of a cursor',
    corpus: corpora.cursorFields,
    run: (bytes) => {
      const position = decodeCursor(bytes.toString('base64url'));
      if (position === null) return;
      const again = decodeCursor(encodeCursor(position));
      if (again === null || encodeCursor(again) !== encodeCursor(position)) {
        throw broken('a position that is read cannot be written');
      }
      const { lows, highs } = uncoveredRanges(position);
      const bounds = lows.flatMap((low, index) => [BigInt(low), BigInt(highs[index] ?? -1)]);
      // PostgreSQL takes them as bigint[], and the reader relies on their order.
      if (bounds.some((bound, index) => bound < (bounds[index - 1] ?? 0n) || bound > maxId)) {
        throw broken('the ranges of a position are not in order');
      }
      if (
        lows.some(
          (low, index) => covers(position, BigInt(low)) || covers(position, BigInt(highs[index] ?? 0)),
        )
      ) {
        throw broken('a range of a position is covered by it');
      }
    },
  },
  {
    name: 'place in the audit log',
    corpus: corpora.places,
    run: (bytes) => void parseAuditPlace(bytes.toString('utf8')),
  },
  {
    name: 'query string',
    corpus: corpora.queries,
    run: (bytes) => {
      const query = new URLSearchParams(bytes.toString('latin1'));
      asksForChannel(query);
      orRefusal(() => channelFromQuery(query));
      orRefusal(() => cursorFromQuery(query));
    },
  },
  { name: 'headers of a request', corpus: corpora.headers, run: checkRequest },
  {
    name: 'text for the log',
    corpus: corpora.headers,
    run: (bytes) => {
      if (controls.test(scrub(bytes.toString('utf8')))) throw broken('the log would steer a terminal');
    },
  },
  { name: 'settings', corpus: corpora.settings, rarity: 4, run: checkSettings },
  { name: 'frame of a text', corpus: corpora.serverMessages, run: checkFrame },
  {
    name: 'token',
    corpus: corpora.tokens,
    rarity: 16,
    run: async (bytes) => {
      try {
        await verifier.verify(bytes.toString('latin1'));
      } catch (error) {
        if (!(error instanceof TokenError)) throw error;
        if (error.code === 'keys_unavailable' || controls.test(error.message)) throw broken('the refusal');
        return;
      }
      throw broken('a token that nobody signed is accepted');
    },
  },
  {
    name: "message of the server, in the client's library",
    corpus: corpora.serverMessages,
    rarity: 16,
    run: receiveAsClient,
  },
];
