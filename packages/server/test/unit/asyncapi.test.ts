import { readFileSync } from 'node:fs';
import {
  CloseCode,
  errorCodes,
  freshnessReasons,
  guaranteeReasons,
  maxChannels,
  resyncReasons,
  subprotocol,
} from '@flagcast/protocol';
import { describe, expect, it } from 'vitest';
import {
  addedKeys,
  clientKeys,
  controlKeys,
  featureKeys,
  pendingChangeKeys,
  plainKeys,
} from '../protocol-messages.js';

interface Schema {
  readonly description?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean;
}

interface Reference {
  readonly $ref: string;
}

interface Document {
  readonly asyncapi: string;
  readonly channels: Readonly<Record<string, { address: string; messages: Record<string, Reference> }>>;
  readonly operations: Readonly<
    Record<string, { action: string; channel: Reference; messages: readonly Reference[] }>
  >;
  readonly components: {
    readonly messages: Readonly<Record<string, { name: string; payload: Reference }>>;
    readonly schemas: Readonly<Record<string, Schema>>;
  };
}

const document = JSON.parse(
  readFileSync(new URL('../../../protocol/asyncapi.json', import.meta.url), 'utf8'),
) as Document;
const { schemas } = document.components;

const types = {
  feature: featureKeys,
  pendingChange: pendingChangeKeys,
  plainEvent: plainKeys,
  event: { ...plainKeys, ...addedKeys },
  ...controlKeys,
  ...clientKeys,
};
const overWebSocket = Object.keys(controlKeys).filter((type) => type !== 'close');

/** Every reference in the document. */
function references(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === '$ref' ? [inner as string] : references(inner),
  );
}

function resolve(reference: string): unknown {
  return reference
    .split('/')
    .slice(1)
    .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], document);
}

function messagesOf(operation: string): string[] {
  return (document.operations[operation]?.messages ?? []).map(({ $ref }) => $ref.split('/').at(-1) ?? '');
}

describe('the AsyncAPI document', () => {
  it('is of version 3, and contains everything that it refers to', () => {
    expect(document.asyncapi).toBe('3.0.0');
    const broken = references(document).filter((reference) => resolve(reference) === undefined);
    expect(broken).toStrictEqual([]);
    for (const [name, message] of Object.entries(document.components.messages)) {
      expect([message.name, message.payload.$ref]).toStrictEqual([name, `#/components/schemas/${name}`]);
    }
  });

  it.each(Object.entries(types))('has the keys of %s', (name, keys) => {
    const { properties = {}, required = [] } = schemas[name] ?? {};
    expect(Object.keys(properties).sort()).toStrictEqual(Object.keys(keys).sort());
    const always = Object.entries(keys).flatMap(([key, use]) => (use === 'always' ? [key] : []));
    expect([...required].sort()).toStrictEqual(always.sort());
  });

  it('has no other messages, and names each by its type', () => {
    expect(Object.keys(schemas).sort()).toStrictEqual(Object.keys(types).sort());
    for (const type of [...Object.keys(controlKeys), ...Object.keys(clientKeys)]) {
      expect(schemas[type]?.properties?.['type']).toStrictEqual({ const: type });
    }
    // Client messages are parsed strictly, and plain events are exactly those of the specification.
    const exact = Object.keys(schemas).filter((name) => schemas[name]?.additionalProperties === false);
    expect(exact.sort()).toStrictEqual(['plainEvent', ...Object.keys(clientKeys)].sort());
  });

  it('has the codes, reasons and numbers of the code', () => {
    const property = (name: string, key: string): Schema => schemas[name]?.properties?.[key] ?? {};
    expect(property('close', 'code').enum).toStrictEqual(Object.values(CloseCode));
    expect(property('resync', 'reason').enum).toStrictEqual([...resyncReasons]);
    expect(property('freshness', 'reason').enum).toStrictEqual([...freshnessReasons]);
    expect(property('hello', 'guarantee_reason').enum).toStrictEqual([...guaranteeReasons]);
    for (const code of errorCodes) expect(property('error', 'code').description).toContain(code);
    expect(property('hello', 'protocol').const).toBe(subprotocol);
    expect(property('hello', 'max_channels').const).toBe(maxChannels);
  });

  it('has the direction of each message, in both dialects and in streams', () => {
    const client = Object.keys(clientKeys);
    expect(Object.keys(document.operations)).toStrictEqual([
      'sendPlain',
      'receivePlain',
      'sendV1',
      'receiveV1',
      'sendStream',
    ]);
    expect(messagesOf('sendPlain')).toStrictEqual(['plainEvent', 'pong']);
    expect(messagesOf('receivePlain')).toStrictEqual(['ping']);
    expect(messagesOf('sendV1')).toStrictEqual(['event', ...overWebSocket]);
    expect(messagesOf('receiveV1')).toStrictEqual(client);
    // Messages go through one channel, and there are no request-reply operations.
    const answers = ['unsubscribed', 'pong', 'authenticated', 'presence', 'error'];
    expect(messagesOf('sendStream')).toStrictEqual([
      'event',
      ...Object.keys(controlKeys).filter((type) => !answers.includes(type)),
    ]);
    for (const [name, { action, channel }] of Object.entries(document.operations)) {
      expect(name.startsWith(action)).toBe(true);
      const { address = '' } = (resolve(channel.$ref) ?? {}) as { address?: string };
      expect(address).toBe(name === 'sendStream' ? '/api/events' : '/api/ws');
    }
  });

  it('lists the messages of each channel', () => {
    for (const [name, { messages }] of Object.entries(document.channels)) {
      const said = Object.keys(document.operations)
        .filter((operation) => document.operations[operation]?.channel.$ref === `#/channels/${name}`)
        .flatMap(messagesOf);
      expect(Object.keys(messages).sort()).toStrictEqual(said.sort());
    }
  });
});
