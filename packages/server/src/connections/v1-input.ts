import { CloseCode } from '@flagcast/protocol';
import type { RequestAuthorizer } from '../auth/request-authorizer.js';
import { HttpProblem, unavailable } from '../http-problem.js';
import type { Lifecycle } from '../lifecycle.js';
import { type NamedSubscription, parseClientMessage } from './codecs/client-message.js';
import { SessionError, type V1Session } from './v1-session.js';

/** Closes the connection. */
const maxMalformed = 10;

/** Handles the messages of a flagcast.v1 client, one after another. */
export class V1Input {
  readonly #session: V1Session;
  readonly #authorizer: RequestAuthorizer;
  readonly #lifecycle: Lifecycle;
  #handled: Promise<void> = Promise.resolve();
  #malformed = 0;

  constructor(
    session: V1Session,
    { authorizer, lifecycle }: { authorizer: RequestAuthorizer; lifecycle: Lifecycle },
  ) {
    this.#session = session;
    this.#authorizer = authorizer;
    this.#lifecycle = lifecycle;
  }

  receive(data: Buffer, isBinary: boolean): void {
    if (isBinary) {
      this.#session.close(CloseCode.protocolViolation, 'bad_message');
    } else {
      this.#handled = this.#handled.then(async () => await this.#handle(data.toString('utf8')));
    }
  }

  async #handle(text: string): Promise<void> {
    const session = this.#session;
    if (session.isEnded) return;
    const message = parseClientMessage(text);
    if ('problem' in message) {
      this.#malformed += 1;
      if (this.#malformed >= maxMalformed) {
        session.close(CloseCode.protocolViolation, 'bad_message');
      } else {
        session.send({ type: 'error', code: 'bad_message', message: message.problem });
      }
      return;
    }
    switch (message.type) {
      case 'ping':
        session.send({ type: 'pong', timestamp: Math.floor(Date.now() / 1_000) });
        break;
      case 'auth':
        await this.#renewToken(message.token);
        break;
      case 'subscribe':
        await this.#report(message.subscription, async () => {
          await session.subscribe(message.subscription.request, message.cursor);
        });
        break;
      case 'unsubscribe':
        await this.#report(message.subscription, () => session.unsubscribe(message.subscription.request));
        break;
    }
  }

  /** An error is sent with the name of its channel or feed; the others continue. */
  async #report({ named }: NamedSubscription, work: () => Promise<void> | void): Promise<void> {
    try {
      await work();
    } catch (error) {
      const isKnown = error instanceof SessionError || error instanceof HttpProblem;
      if (!isKnown) this.#lifecycle.emit('access:failed', { error: error as Error });
      const { code, message } = isKnown ? error : unavailable();
      this.#session.send({ type: 'error', code, message, ...named });
    }
  }

  /** Replaces the token by a new one of the same user. */
  async #renewToken(token: string): Promise<void> {
    const session = this.#session;
    const { connection } = session;
    try {
      const renewed = await this.#authorizer.authenticateToken(token);
      if (renewed.user.id !== connection.principal.user.id) {
        session.close(CloseCode.badToken, 'other_user');
        return;
      }
      connection.principal = renewed;
      session.send({ type: 'authenticated', token_expires_at: new Date(renewed.expiresAtMs).toISOString() });
    } catch (error) {
      const problem = error instanceof HttpProblem ? error : unavailable();
      if (problem.status === 501) {
        session.send({ type: 'error', code: problem.code, message: problem.message });
      } else if (problem.status < 500) {
        session.close(problem.closeCode, problem.code);
      } else {
        // The old token is still valid.
        this.#lifecycle.emit('access:failed', { error: error as Error });
        const message = 'The token cannot be checked now: try again shortly';
        session.send({ type: 'error', code: 'unavailable', message });
      }
    }
  }
}
