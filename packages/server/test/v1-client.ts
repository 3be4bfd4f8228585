import type { EventMessage } from '@flagcast/protocol';
import type pg from 'pg';
import { V1Client as Client } from '../../../testing/testkit/clients/v1-client.ts';
import { decodeCursor } from '../src/events/position.js';

export type { ChannelIds as TestChannel } from '../../../testing/testkit/channel.ts';

/** A client of flagcast.v1 that decodes cursors. */
export class V1Client extends Client {
  /** The first event of this step of a request. */
  async step(id: string, action: string): Promise<EventMessage> {
    return (await this.message(
      (message) => 'source' in message && message.pending_change_id === id && message.action === action,
    )) as EventMessage;
  }

  /**
   * A heartbeat's cursor that covers all that has been committed. The first ones may lag behind: a cursor
   * covers nothing that a crash of the database could undo, and events that it does not cover may be repeated.
   */
  async settled(pool: pg.Pool): Promise<string> {
    const { rows } = await pool.query<{ xmax: string; open: string[] }>(
      `SELECT pg_snapshot_xmax(now.snapshot)::text AS xmax,
        ARRAY(SELECT pg_snapshot_xip(now.snapshot)::text) AS open
      FROM pg_current_snapshot() AS now(snapshot)`,
    );
    const xmax = BigInt(rows[0]?.xmax ?? 0);
    const open = new Set(rows[0]?.open.map(BigInt));
    for (;;) {
      const { cursor } = await this.control('heartbeat', this.messages.length);
      const position = decodeCursor(cursor);
      if (position === null || position.xmax < xmax) continue;
      // The cursor of an earlier read may have the same xmax, and list transactions that have committed since.
      const lagsBehind =
        position.listed === 'open' && position.xids.some((xid) => xid < xmax && !open.has(xid));
      if (!lagsBehind) return cursor;
    }
  }
}
