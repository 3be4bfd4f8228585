import { createTrustedProxies } from '../../../packages/server/dist/auth/trusted-proxies.js';
import { createOriginPolicy } from '../../../packages/server/dist/auth/origin-policy.js';
import {
  redactUrl,
  subprotocolsOf,
  tokenFromRequest,
} from '../../../packages/server/dist/auth/request-token.js';
import { createTokenVerifier } from '../../../packages/server/dist/auth/token-verifier.js';
import { ConfigError, loadConfig } from '../../../packages/server/dist/cli/config.js';
import { scrub } from '../../../packages/server/dist/describe.js';
import { HttpProblem } from '../../../packages/server/dist/http-problem.js';
import {
  asksForChannel,
  channelFromQuery,
  cursorFromQuery,
} from '../../../packages/server/dist/auth/request-target.js';
import {
  covers,
  decodeCursor,
  encodeCursor,
  maxId,
  uncoveredRanges,
} from '../../../packages/server/dist/events/position.js';
import { parsePageKey } from '../../../packages/server/dist/api/audit-search.js';
import { parseClientMessage } from '../../../packages/server/dist/connections/codecs/client-message.js';
import { textFrame } from '../../../packages/server/dist/connections/codecs/frame.js';
import { answerPlain } from '../../../packages/server/dist/connections/codecs/plain.js';
import { FrameReader } from '../../testkit/frames.ts';
import { corpora } from './corpus.js';
import { receiveAsClient } from './client.js';

/**
 * A parser under test. `run`: throws if the parser throws an unexpected error or violates a promise; the parser's own errors
 * are expected. `rarity`: a slow parser gets one in `rarity` of the inputs that others get.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly corpus: readonly Buffer[],
 *   readonly rarity?: number,
 *   readonly run: (bytes: Buffer) => void | Promise<void>,
 * }} Parser
 */

/** @param {string} problem */
function violation(problem) {
  return new Error(`violated promise: ${problem}`);
}

const controls = /[\p{Cc}\p{Cf}]/u;
const originPolicy = createOriginPolicy(['https://flags.example.com']);
const { clientAddress } = createTrustedProxies(['10.0.0.0/8', '127.0.0.1', '::1']);
const verifier = createTokenVerifier({ secret: 'a secret that is thirty-two bytes long' });
const socket = { remoteAddress: '127.0.0.1' };
/** Settings whose values may have passwords, so error messages must not contain them. */
const secretSettings = ['DATABASE_URL', 'FLAGCAST_LISTEN_URL', 'FLAGCAST_JWT_SECRET', 'FLAGCAST_JWKS_URL'];
/** The example in the error messages. */
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
function expectProblem(parse) {
  try {
    parse();
  } catch (error) {
    if (!(error instanceof HttpProblem)) throw error;
    const { status, code, message } = error;
    if (status !== 400 || !/^[a-z_]+$/.test(code) || controls.test(message))
      throw violation('invalid problem');
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
      // One line for each problem: this setting has one, or requires up to three other settings.
      const lines = error.message.split('\n');
      if (lines.some((line) => !/^[A-Z]\w+\b/.test(line)) || lines.length > 3) {
        throw violation(`the error about ${name} has several lines`);
      }
      const isSecret = names === secretSettings && value.length > 12 && !example.includes(value);
      if (isSecret && error.message.includes(value))
        throw violation(`the error about ${name} shows its value`);
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
    throw violation('the frame does not contain the text');
}

/** @param {Buffer} bytes */
function checkRequest(bytes) {
  // node:http rejects headers with control characters except the tab.
  const text = bytes.toString('latin1').replace(/[\0-\x08\n-\x1f\x7f]/g, '');
  for (const headers of [{ authorization: text }, { 'sec-websocket-protocol': text }, {}]) {
    const found = tokenFromRequest({ headers, url: text }, { allowQueryToken: true });
    // Another part of the URL may contain the token by chance.
    const inQuery = found !== null && Object.keys(headers).length === 0 && found.length > 12;
    if (inQuery && text.split(found).length === 2 && redactUrl(text).includes(found))
      throw violation('the log would show a token');
    if (subprotocolsOf({ headers }).some((name) => /^(bearer|token)\./.test(name))) {
      throw violation('a token would be taken for a subprotocol');
    }
  }
  originPolicy.isAllowed({ headers: { origin: text, host: 'flags.example.com' }, socket: {} });
  if (!/^[\da-f.:]+$/i.test(clientAddress({ headers: { 'x-forwarded-for': text }, socket }))) {
    throw violation('the result is not an IP address');
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
        throw violation('the result is neither a message nor a problem of one line');
      }
    },
  },
  {
    name: 'message of a plain client',
    corpus: corpora.clientMessages,
    run: (bytes) => {
      const answer = answerPlain(bytes);
      if (answer !== null && answer.length > 100) throw violation('the answer is longer than a pong');
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
        throw violation('a decoded position cannot be encoded');
      }
      const { lows, highs } = uncoveredRanges(position);
      const bounds = lows.flatMap((low, index) => [BigInt(low), BigInt(highs[index] ?? -1)]);
      // They are passed to PostgreSQL as bigint[], and the reader relies on their order.
      if (bounds.some((bound, index) => bound < (bounds[index - 1] ?? 0n) || bound > maxId)) {
        throw violation('the ranges of a position are not in order');
      }
      if (
        lows.some(
          (low, index) => covers(position, BigInt(low)) || covers(position, BigInt(highs[index] ?? 0)),
        )
      ) {
        throw violation('the position covers one of its uncovered ranges');
      }
    },
  },
  {
    name: 'position in the audit log',
    corpus: corpora.places,
    run: (bytes) => void parsePageKey(bytes.toString('utf8')),
  },
  {
    name: 'query string',
    corpus: corpora.queries,
    run: (bytes) => {
      const query = new URLSearchParams(bytes.toString('latin1'));
      asksForChannel(query);
      expectProblem(() => channelFromQuery(query));
      expectProblem(() => cursorFromQuery(query));
    },
  },
  { name: 'headers of a request', corpus: corpora.headers, run: checkRequest },
  {
    name: 'text for the log',
    corpus: corpora.headers,
    run: (bytes) => {
      if (controls.test(scrub(bytes.toString('utf8'))))
        throw violation('the log would contain control characters');
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
        if (!(error instanceof HttpProblem)) throw error;
        if (error.code === 'keys_unavailable' || controls.test(error.message))
          throw violation('invalid refusal');
        return;
      }
      throw violation('a token without a valid signature is accepted');
    },
  },
  {
    name: 'message of the server, in the client library',
    corpus: corpora.serverMessages,
    rarity: 16,
    run: receiveAsClient,
  },
];
