import { once } from 'node:events';
import { WebSocketServer } from 'ws';
import { openSession } from '../../packages/server/dist/database/session.js';
import { sessionSettings } from '../../packages/server/dist/reader/log-statements.js';
import { serveParent } from '../child.js';
import { floorChannel } from './floor-schema.js';

/** @import { AddressInfo } from 'node:net' */

/** @typedef {{ databaseUrl: string, kind: 'payload' | 'select' }} FloorStart */

/**
 * The least that a server can do: what the trigger notifies goes to every client, as it is
 * (`payload`) or after one look-up by primary key (`select`). It loses what is committed while it
 * is not connected, and checks nobody. One session hears and looks up: a second one would have to
 * be woken first.
 */
serveParent(async (/** @type {FloorStart} */ { databaseUrl, kind }) => {
  const webSockets = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  const session = await openSession({ databaseUrl, applicationName: 'bench floor', queryTimeoutMs: 5_000 });
  await session.query(sessionSettings);

  /** @param {string} text */
  const broadcast = (text) => {
    for (const client of webSockets.clients) client.send(text);
  };

  /** @param {string} id */
  const lookUp = async (id) => {
    const { rows } = await session.query({
      name: 'bench_look_up',
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
    else void lookUp(payload);
  });
  await session.query(`LISTEN ${floorChannel}`);
  if (webSockets.address() === null) await once(webSockets, 'listening');
  return /** @type {AddressInfo} */ (webSockets.address()).port;
});
