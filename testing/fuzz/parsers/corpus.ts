import { encodeCursor } from 'flagcast/testing';

function inputs(...texts: readonly string[]): Buffer[] {
  return texts.map((text) => Buffer.from(text));
}

const cursors = [
  { xmin: 1_000n, xmax: 1_010n, listed: 'open', xids: [1_001n, 1_005n] } as const,
  { xmin: 0n, xmax: 0n, listed: 'open', xids: [] } as const,
  { xmin: 2n ** 62n, xmax: 2n ** 62n + 9n, listed: 'delivered', xids: [2n ** 62n, 2n ** 62n + 1n] } as const,
].map((coverage) => encodeCursor({ ...coverage, history: 'l3xVq0_9-aZ1' }));

const project = '11111111-1111-4111-8111-111111111111';
const channel = '"project_id":"p","environment":"prod","environment_id":"7"';
const event = `"timestamp":"2026-01-01T00:00:00.000001Z","project_id":"p","environment":"prod","entity":"feature","entity_id":"f","environment_id":"7","feature_id":"f","actor":"ada","committed_at":null,"seen_at":"2026-01-01T00:00:00.1Z"`;
const jwt =
  'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VySWQiOjcsInR5cGUiOiJhY2Nlc3MiLCJleHAiOjQxMDI0NDQ4MDB9.c2lnbmF0dXJl';

/** Valid inputs by kind. */
export const corpora = {
  clientMessages: inputs(
    '{"type":"ping"}',
    `{"type":"auth","token":"${jwt}"}`,
    `{"type":"subscribe","project_id":"${project}","env":"prod"}`,
    `{"type":"subscribe","project_id":"${project}","env_id":7,"cursor":"${cursors[0] ?? ''}"}`,
    `{"type":"unsubscribe","project_id":"${project}","env_id":"7"}`,
    `{"type":"announce","view":"v","project_id":"${project}","env_id":"7","feature_id":"f","field":"name"}`,
  ),
  cursors: inputs(...cursors),
  /** The decoded content of the cursors. */
  cursorFields: cursors.map((cursor) => Buffer.from(cursor, 'base64url')),
  pageKeys: inputs(
    '2026-02-03T12:00:00.000000Z_0_12345',
    `2026-02-03T12:00:00.000001Z_1_${project}`,
    `1999-12-31T23:59:59.999999Z_2_${project}`,
  ),
  queries: inputs(
    `project_id=${project}&env=prod`,
    `project_id=${project}&env_id=7&cursor=${cursors[0] ?? ''}`,
    `project_id=a%20b&environment_id=12&token=${jwt}`,
  ),
  headers: inputs(
    `Bearer ${jwt}`,
    `flagcast.v1, bearer.${jwt}`,
    'flagcast.plain, token.abc',
    `/api/ws?project_id=p&env=prod&token=${jwt}`,
    '10.0.0.1, 192.168.0.7:4711, [::1]:80, ::ffff:127.0.0.1, fe80::1%eth0',
    'https://flags.example.com:8443',
    'postgresql://user:password@host:5432/database password=secret&token=abc',
  ),
  settings: inputs(
    ...'500ms 1.5h 8080 127.0.0.1 postgresql://user:password@host:5432/database auto togglr allow on'.split(
      ' ',
    ),
    'a secret that is thirty-two bytes long',
    'https://id.example/keys',
    'app."Flag events"',
    'https://a.example.com, http://b.example.com:8080,null',
    '10.0.0.0/8, ::1',
  ),
  tokens: inputs(jwt, 'eyJhbGciOiJub25lIn0.e30.', 'eyJhbGciOiJIUzI1NiJ9.e30.AAAA'),
  serverMessages: inputs(
    '{"type":"hello","protocol":"flagcast.v1","server":"s","user_id":"1","username":"a","token_expires_at":"2030-01-01T00:00:00Z","heartbeat_interval_ms":15000,"max_channels":32,"guarantee":"exact","guarantee_reason":"event_log","overlap_ms":null,"embedded_state":true}',
    `{"type":"caught_up",${channel},"cursor":"c2"}`,
    `{"type":"resync",${channel},"reason":"cursor_expired"}`,
    `{"type":"unsubscribed",${channel}}`,
    '{"type":"heartbeat","cursor":"c3","timestamp":"2026-01-01T00:00:00Z","as_of":"2026-01-01T00:00:00.123Z"}',
    '{"type":"freshness","state":"stale","since":"2026-01-01T00:00:00.123Z","reason":"read_overdue"}',
    '{"type":"freshness","state":"fresh"}',
    `{"type":"channel_changed",${channel},"previous_environment":"dev"}`,
    '{"type":"pong","timestamp":1}',
    `{"type":"presence","project_id":"p","environment_id":"7","feature_id":"f","users":[{"user_id":"1","username":"a","field":null}],"count":1}`,
    '{"type":"authenticated","token_expires_at":"2030-01-01T00:00:00Z"}',
    `{"type":"error","code":"bad_message","message":"m",${channel}}`,
    `{"source":"audit","type":"feature_updated",${event},"action":"updated","id":"1","row_id":"1","pending_change_id":null,"feature":{"id":"f","key":"k","name":"n","description":null,"kind":"simple","rollout_key":null,"enabled":true,"default_value":"x","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","version":"1"},"cursor":"c4"}`,
    `{"source":"pending","type":"pending_change_created",${event},"action":"pending","id":"2","row_id":"c","feature_unreadable":true,"pending_change_id":"c"}`,
  ),
};
