import * as server from 'flagcast/testing';
import { parsePageKey } from '../../../packages/console/server/audit-search.ts';
import { frameReader } from '../../testkit/frames.ts';
import { receiveAsClient } from './client.ts';
import { corpora } from './corpus.ts';

/** A parser of what clients, hosts and operators send. */
export interface Parser {
  readonly name: string;
  readonly corpus: readonly Buffer[];
  /** A slow parser gets one in so many of the inputs that others get. */
  readonly rarity: number;
  /** Throws if the parser throws an unexpected error or violates a promise. The parser's own errors are expected. */
  readonly run: (bytes: Buffer) => void | Promise<void>;
}

const controls = /[\p{Cc}\p{Cf}]/u;
const originPolicy = server.createOriginPolicy(['https://flags.example.com']);
const { clientAddress } = server.createTrustedProxies(['10.0.0.0/8', '127.0.0.1', '::1']);
const verifier = server.createTokenVerifier({ secret: 'a secret that is thirty-two bytes long' });
const socket = { remoteAddress: '127.0.0.1' };
/** Settings whose values may have passwords, so error messages must not contain them. */
const secretSettings = ['DATABASE_URL', 'FLAGCAST_LISTEN_URL', 'FLAGCAST_JWT_SECRET', 'FLAGCAST_JWKS_URL'];
/** The example in the error messages. */
const example = 'postgresql://user:password@host:5432/database';
const otherSettings = [
  ...['FLAGCAST_JWT_USER_CLAIM', 'FLAGCAST_JWT_MAX_AGE', 'PORT', 'HOST', 'FLAGCAST_POLL_INTERVAL'],
  ...['FLAGCAST_WORKERS', 'FLAGCAST_VIEW', 'FLAGCAST_OVERLAP', 'FLAGCAST_ALLOWED_ORIGINS', 'FLAGCAST_WRITES'],
  ...['FLAGCAST_QUERY_TOKEN', 'FLAGCAST_EVENT_TYPES', 'FLAGCAST_TRUSTED_PROXIES'],
  'FLAGCAST_MAX_CONNECTIONS_PER_USER',
];

function expect(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new Error(`violated promise: ${problem}`);
}

/** Only HttpProblem is an expected error. */
function expectProblem(error: unknown): server.HttpProblem {
  if (!(error instanceof server.HttpProblem)) throw error;
  expect(/^[a-z_]+$/.test(error.code) && !controls.test(error.message), 'an invalid refusal');
  return error;
}

function checkQuery(parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    expect(expectProblem(error).status === 400, 'a query is refused with another status than 400');
  }
}

function checkSettings(bytes: Buffer): void {
  const value = bytes.toString('utf8');
  for (const names of [secretSettings, otherSettings]) {
    const name = names[value.length % names.length] ?? '';
    try {
      server.loadConfig({ FLAGCAST_DATA_DIR: '/', [name]: value }, {});
    } catch (error) {
      if (!(error instanceof server.ConfigError)) throw error;
      // One line for each problem: this setting has one, or requires up to three other settings.
      const lines = error.message.split('\n');
      const isOneLineEach = lines.length <= 3 && lines.every((line) => /^[A-Z]\w+\b/.test(line));
      expect(isOneLineEach, `the error about ${name} has several lines`);
      const isSecret = names === secretSettings && value.length > 12 && !example.includes(value);
      expect(!isSecret || !error.message.includes(value), `the error about ${name} shows its value`);
    }
  }
}

function checkFrame(bytes: Buffer): void {
  const text = bytes.toString('utf8');
  const read: string[] = [];
  const reader = frameReader({ onText: (each) => read.push(each) });
  // An incomplete frame would take the beginning of the second one.
  for (const frame of [server.textFrame(text), server.textFrame('')]) reader.write(frame);
  expect(read.length === 2 && read[0] === text && read[1] === '', 'the frame does not contain the text');
}

function checkRequest(bytes: Buffer): void {
  // node:http rejects headers with control characters except the tab.
  const text = bytes.toString('latin1').replace(/[\0-\x08\n-\x1f\x7f]/g, '');
  for (const headers of [{ authorization: text }, { 'sec-websocket-protocol': text }, {}]) {
    const found = server.tokenFromRequest({ headers, url: text }, { allowQueryToken: true });
    // Another part of the URL may contain the token by chance.
    const inQuery = found !== null && Object.keys(headers).length === 0 && found.length > 12;
    const isShown = inQuery && text.split(found).length === 2 && server.redactUrl(text).includes(found);
    expect(!isShown, 'the log would show a token');
    const hasToken = server.subprotocolsOf({ headers }).some((name) => /^(bearer|token)\./.test(name));
    expect(!hasToken, 'a token would be taken for a subprotocol');
  }
  originPolicy.isAllowed({ headers: { origin: text, host: 'flags.example.com' }, socket: {} });
  const address = clientAddress({ headers: { 'x-forwarded-for': text }, socket });
  expect(/^[\da-f.:]+$/i.test(address), 'the result is not an IP address');
}

function checkCursorFields(bytes: Buffer): void {
  const position = server.decodeCursor(bytes.toString('base64url'));
  if (position === null) return;
  const again = server.decodeCursor(server.encodeCursor(position));
  const isSame = again !== null && server.encodeCursor(again) === server.encodeCursor(position);
  expect(isSame, 'a decoded position cannot be encoded');
  const { lows, highs } = server.uncoveredRanges(position);
  const bounds = lows.flatMap((low, index) => [BigInt(low), BigInt(highs[index] ?? -1)]);
  // They are passed to PostgreSQL as bigint[], and the reader relies on their order.
  const areOrdered = bounds.every(
    (bound, index) => bound >= (bounds[index - 1] ?? 0n) && bound <= server.maxId,
  );
  expect(areOrdered, 'the ranges of a position are not in order');
  expect(
    !bounds.some((bound) => server.covers(position, bound)),
    'the position covers one of its uncovered ranges',
  );
}

async function checkToken(bytes: Buffer): Promise<void> {
  const identity = await verifier.verify(bytes.toString('latin1')).catch((error: unknown) => {
    expect(expectProblem(error).code !== 'keys_unavailable', 'an invalid refusal');
    return null;
  });
  expect(identity === null, 'a token without a valid signature is accepted');
}

function parser(name: string, corpus: readonly Buffer[], run: Parser['run'], rarity = 1): Parser {
  return { name, corpus, run, rarity };
}

export const parsers: readonly Parser[] = [
  parser('message of a flagcast.v1 client', corpora.clientMessages, (bytes) => {
    const parsed = server.parseClientMessage(bytes.toString('utf8'));
    const isLine = 'problem' in parsed ? /^[\w ,:]{5,80}$/.test(parsed.problem) : /^\w+$/.test(parsed.type);
    expect(isLine, 'the result is neither a message nor a problem of one line');
  }),
  parser('message of a plain client', corpora.clientMessages, (bytes) => {
    expect((server.answerPlain(bytes)?.length ?? 0) <= 100, 'the answer is longer than a pong');
  }),
  parser('cursor', corpora.cursors, (bytes) => void server.decodeCursor(bytes.toString('utf8'))),
  parser('fields of a cursor', corpora.cursorFields, checkCursorFields),
  parser('position in the audit log', corpora.pageKeys, (bytes) => {
    parsePageKey(bytes.toString('utf8'));
  }),
  parser('query string', corpora.queries, (bytes) => {
    const query = new URLSearchParams(bytes.toString('latin1'));
    server.asksForSubscription(query);
    checkQuery(() => server.subscriptionFromQuery(query));
    checkQuery(() => server.cursorFromQuery(query));
  }),
  parser('headers of a request', corpora.headers, checkRequest),
  parser('text for the log', corpora.headers, (bytes) => {
    expect(!controls.test(server.scrub(bytes.toString('utf8'))), 'the log would contain control characters');
  }),
  parser('settings', corpora.settings, checkSettings, 4),
  parser('frame of a text', corpora.serverMessages, checkFrame),
  parser('token', corpora.tokens, checkToken, 16),
  parser('message of the server, in the client library', corpora.serverMessages, receiveAsClient, 16),
];
