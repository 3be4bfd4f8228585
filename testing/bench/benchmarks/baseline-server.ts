import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { WebSocketServer } from 'ws';
import { serveParent } from '../../testkit/child.ts';
import { type BaselineStart, notifyChannel } from './baselines.ts';

/**
 * A minimal server as a baseline: it sends each NOTIFY payload to every client, unchanged, or after a SELECT by primary key.
 * It has no authentication, and loses events while it is disconnected. One session listens and selects, because a second one
 * would have to be woken first.
 */
serveParent(async ({ databaseUrl, selects }: BaselineStart) => {
  const webSockets = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'bench baseline' });
  await client.connect();
  // The settings of Flagcast's reader.
  await client.query('SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off');

  const broadcast = (text: string) => {
    for (const webSocket of webSockets.clients) webSocket.send(text);
  };
  const selectRow = async (id: string) => {
    const { rows } = await client.query<string[]>({
      name: 'bench_select',
      text: `SELECT a.created_at, a.project_id, e.key, a.entity, a.entity_id, a.action
        FROM audit_log a JOIN environments e ON e.id = a.environment_id WHERE a.id = $1`,
      values: [id],
      rowMode: 'array',
      types: { getTypeParser: () => String },
    });
    for (const [timestamp, project_id, environment, entity = '', entity_id, action = ''] of rows) {
      const type = `${entity}_${action}`;
      const message = {
        source: 'audit',
        type,
        timestamp,
        project_id,
        environment,
        entity,
        entity_id,
        action,
      };
      broadcast(JSON.stringify(message));
    }
  };
  client.on('notification', ({ payload = '' }) => {
    if (selects) void selectRow(payload);
    else broadcast(payload);
  });
  await client.query(`LISTEN ${notifyChannel}`);
  if (webSockets.address() === null) await once(webSockets, 'listening');
  return (webSockets.address() as AddressInfo).port;
});
