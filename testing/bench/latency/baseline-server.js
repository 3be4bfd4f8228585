import { once } from 'node:events';
import { WebSocketServer } from 'ws';
import { Session } from '../../../packages/server/dist/postgres/session.js';
import { plannerSettings } from '../../../packages/server/dist/reader/log-statements.js';
import { serveParent } from '../../testkit/child.ts';
import { baselineChannel } from './baseline-schema.js';

/** @import { AddressInfo } from 'node:net' */

/** @typedef {{ databaseUrl: string, kind: 'payload' | 'select' }} BaselineStart */

/**
 * A minimal server as a baseline: it sends each NOTIFY payload to every client, unchanged (`payload`) or after a SELECT by
 * primary key (`select`). It has no authentication, and loses events while it is disconnected. One session listens and
 * selects, because a second one would have to be woken first.
 */
serveParent(async (/** @type {BaselineStart} */ { databaseUrl, kind }) => {
  const webSockets = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  const session = await Session.open({
    database: { url: databaseUrl },
    applicationName: 'bench baseline',
    queryTimeoutMs: 5_000,
    values: 'text',
  });
  await session.query(plannerSettings);

  /** @param {string} text */
  const broadcast = (text) => {
    for (const client of webSockets.clients) client.send(text);
  };

  /** @param {string} id */
  const selectRow = async (id) => {
    const { rows } = await session.query({
      name: 'bench_select',
      text: `SELECT a.created_at, a.project_id, e.key, a.entity, a.entity_id, a.action
        FROM audit_log a JOIN environments e ON e.id = a.environment_id WHERE a.id = $1`,
      values: [id],
      rowMode: 'array',
    });
    for (const row of /** @type {string[][]} */ (rows)) {
      const [timestamp, projectId, environment, entity = '', entityId, action = ''] = row;
      broadcast(
        JSON.stringify({
          source: 'audit',
          type: `${entity}_${action}`,
          timestamp,
          project_id: projectId,
          environment,
          entity,
          entity_id: entityId,
          action,
        }),
      );
    }
  };

  session.on('notification', ({ payload = '' }) => {
    if (kind === 'payload') broadcast(payload);
    else void selectRow(payload);
  });
  await session.query(`LISTEN ${baselineChannel}`);
  if (webSockets.address() === null) await once(webSockets, 'listening');
  return /** @type {AddressInfo} */ (webSockets.address()).port;
});
