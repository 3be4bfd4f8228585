import { CloseCode } from '@flagcast/protocol';
import { HttpProblem, unavailable } from '../http-problem.js';
import type { RequestAuthorizer, Principal } from '../auth/request-authorizer.js';
import { type NamedChannel, parseClientMessage } from './codecs/client-message.js';
import { type Session, SessionError } from './session.js';

export interface V1InputOptions {
  session: Session;
  authorizer: RequestAuthorizer;
  principal: Principal;
  /** Lives until then, in milliseconds since the epoch; changed when the peer has proved itself anew. */
  renewable: { expiresAtMs: number };
  /** The database or the keys failed while a message was being carried out. */
  onFailure: (error: Error) => void;
}

/** The tenth message that is not one of the protocol's ends the connection. */
const maxMalformed = 10;

/** Carries out what a flagcast.v1 peer asks, strictly and one message after the other. */
export class V1Input {
  readonly #options: V1InputOptions;
  #working: Promise<void> = Promise.resolve();
  #malformed = 0;

  constructor(options: V1InputOptions) {
    this.#options = options;
  }

  /** Takes one message as it came. Never throws. */
  receive(data: Buffer, isBinary: boolean): void {
    const { session } = this.#options;
    if (isBinary) session.close(CloseCode.protocolViolation, 'binary messages have no meaning here');
    else this.#working = this.#working.then(async () => await this.#carryOut(data.toString('utf8')));
  }

  async #carryOut(text: string): Promise<void> {
    const { session } = this.#options;
    if (session.isEnded) return;
    const message = parseClientMessage(text);
    if ('problem' in message) {
      this.#malformed += 1;
      if (this.#malformed >= maxMalformed) {
        session.close(CloseCode.protocolViolation, 'too many malformed messages');
      } else {
        session.tell({ type: 'error', code: 'bad_message', message: message.problem });
      }
      return;
    }
    switch (message.type) {
      case 'ping':
        session.tell({ type: 'pong', timestamp: Math.floor(Date.now() / 1_000) });
        break;
      case 'auth':
        await this.#renew(message.token);
        break;
      case 'subscribe':
        await this.#about(message.channel, async () => {
          await session.subscribe(message.channel.request, message.cursor);
        });
        break;
      case 'unsubscribe':
        await this.#about(message.channel, () => session.unsubscribe(message.channel.request));
        break;
    }
  }

  /** What goes wrong about a channel is said about that channel; the others go on. */
  async #about({ named }: NamedChannel, work: () => Promise<void> | void): Promise<void> {
    const { session, onFailure } = this.#options;
    try {
      await work();
    } catch (error) {
      if (error instanceof SessionError) {
        session.tell({ type: 'error', code: error.code, message: error.message, ...named });
      } else if (error instanceof HttpProblem) {
        session.tell({ type: 'error', code: error.code, message: error.message, ...named });
      } else {
        onFailure(error as Error);
        const { message } = unavailable();
        session.tell({ type: 'error', code: 'unavailable', message, ...named });
      }
    }
  }

  /** A fresh token takes the place of the old one, if it is of the same user. */
  async #renew(token: string): Promise<void> {
    const { authorizer, principal, session, renewable, onFailure } = this.#options;
    try {
      const renewed = await authorizer.admitToken(token);
      if (renewed.user.id !== principal.user.id) {
        session.close(CloseCode.badToken, 'the token is of another user');
        return;
      }
      renewable.expiresAtMs = renewed.expiresAtMs;
      session.tell({ type: 'authenticated', token_expires_at: new Date(renewed.expiresAtMs).toISOString() });
    } catch (error) {
      if (error instanceof HttpProblem && error.status === 501) {
        session.tell({ type: 'error', code: error.code, message: error.message });
        return;
      }
      if (error instanceof HttpProblem && error.status < 500) {
        session.close(error.closeCode, error.code);
        return;
      }
      // The old token is still good; the peer tries again.
      onFailure(error as Error);
      session.tell({
        type: 'error',
        code: 'unavailable',
        message: 'The token cannot be checked now: try again shortly',
      });
    }
  }
}
