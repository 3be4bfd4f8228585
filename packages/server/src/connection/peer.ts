import type { CloseCode } from '@flagcast/protocol';

/** All that a connection knows of its socket. */
export interface Peer {
  /** Hands over bytes; never blocks. What the network does not take is buffered; false: more than a little is. */
  send(bytes: Buffer): boolean;
  /** Ends the connection with a close code and a short reason. */
  close(code: CloseCode, reason: string): void;
  /** A resync has ended its last channel. A peer that can subscribe anew has no need to know. */
  emptied?(): void;
  /** How many bytes are waiting for the network. */
  readonly bufferedAmount: number;
}
