import type { PresenceMessage } from '@flagcast/protocol';
import { expect } from 'vitest';
import { Connection, type Session } from '../../src/connections/connection.js';
import { ConnectionRegistry } from '../../src/connections/connection-registry.js';
import type { Presence } from '../../src/connections/presence.js';
import { Lifecycle } from '../../src/lifecycle.js';

const registry = new ConnectionRegistry(new Lifecycle());

/** A connection that keeps what it is sent. */
export class TestConnection extends Connection {
  override readonly session = expect.unreachable as unknown as Session;
  readonly frames: Buffer[] = [];
  full = false;
  protected override readonly bufferedAmount = 0;

  constructor(userId: string) {
    const user = { id: userId, username: `user ${userId}`, active: true, superuser: false };
    super({ user, expiresAtMs: Infinity }, registry);
  }

  override get isFull(): boolean {
    return this.full;
  }

  get messages(): PresenceMessage[] {
    return this.frames.map(
      (frame) => JSON.parse(frame.toString('utf8', frame.indexOf('{'))) as PresenceMessage,
    );
  }

  protected override write(bytes: Buffer): boolean {
    this.frames.push(bytes);
    return true;
  }

  protected override closeTransport(): void {
    return;
  }

  override terminate(): void {
    return;
  }
}

/** Announces a view of a feature. */
export function announce(
  presence: Presence,
  connection: Connection,
  {
    field = null,
    view = 'v',
    id = 'f',
  }: { readonly field?: string | null; readonly view?: string; readonly id?: string } = {},
): boolean {
  const channel = { projectId: 'p', environmentId: '1' };
  return presence.announce(connection, view, { channel, subject: { kind: 'feature_id', id }, field });
}

/** The users of a message, as `id` or `id:field`. */
export const shown = ({ users }: Pick<PresenceMessage, 'users'>): string[] =>
  users.map(({ user_id, field }) => (field === null ? user_id : `${user_id}:${field}`));
