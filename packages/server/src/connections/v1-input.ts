import { CloseCode } from '@flagcast/protocol';
import type { SubscriptionRequest } from '../auth/authorization.js';
import { HttpProblem, unavailable } from '../http-problem.js';
import { parseClientMessage, type PresencePlace } from './codecs/client-message.js';
import { SessionError, type V1Session, type V1Sources } from './v1-session.js';

/** Closes the connection. */
const maxMalformed = 10;

/** Handles the messages of a flagcast.v1 client, one after another. */
export class V1Input {
  readonly #session: V1Session;
  readonly #sources: V1Sources;
  #handled: Promise<void> = Promise.resolve();
  #malformed = 0;

  constructor(session: V1Session, sources: V1Sources) {
    this.#session = session;
    this.#sources = sources;
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
        await this.#report(message.request, async () => {
          await session.subscribe(message.request, message.cursor);
        });
        break;
      case 'unsubscribe':
        await this.#report(message.request, () => session.unsubscribe(message.request));
        break;
      case 'announce':
        await this.#report(null, () => this.#announce(message.view, message.place));
        break;
    }
  }

  #announce(view: string, place: PresencePlace | null): void {
    const { presence } = this.#sources;
    const { connection } = this.#session;
    if (presence === null) throw new SessionError('not_available', 'This server has no presence');
    if (place === null) {
      presence.leave(connection, view);
      return;
    }
    const channel = this.#session.viewable(place.channel);
    if (channel === null) {
      throw new SessionError('not_subscribed', 'Subscribe to the channel before you announce a view in it');
    }
    if (!presence.announce(connection, view, { ...place, channel })) {
      throw new SessionError('too_many_views', 'This connection has announced 16 views: close one');
    }
  }

  /** An error is sent with the name of its channel or feed; the others continue. */
  async #report(request: SubscriptionRequest | null, work: () => Promise<void> | void): Promise<void> {
    try {
      await work();
    } catch (error) {
      const isKnown = error instanceof SessionError || error instanceof HttpProblem;
      if (!isKnown) this.#sources.lifecycle.emit('access:failed', { error: error as Error });
      const { code, message } = isKnown ? error : unavailable();
      this.#session.send({ type: 'error', code, message, ...(request === null ? {} : nameOf(request)) });
    }
  }

  /** Replaces the token by a new one of the same user. */
  async #renewToken(token: string): Promise<void> {
    const session = this.#session;
    const { connection } = session;
    try {
      const renewed = await this.#sources.authorizer.authenticateToken(token);
      if (renewed.user.id !== connection.principal.user.id) {
        session.close(CloseCode.badToken, 'other_user');
        return;
      }
      connection.renew(renewed);
      session.send({ type: 'authenticated', token_expires_at: new Date(renewed.expiresAtMs).toISOString() });
    } catch (error) {
      const problem = error instanceof HttpProblem ? error : unavailable();
      if (problem.status === 501) {
        session.send({ type: 'error', code: problem.code, message: problem.message });
      } else if (problem.status < 500) {
        session.close(problem.closeCode, problem.code);
      } else {
        // The old token is still valid.
        this.#sources.lifecycle.emit('access:failed', { error: error as Error });
        const message = 'The token cannot be checked now: try again shortly';
        session.send({ type: 'error', code: 'unavailable', message });
      }
    }
  }
}

/** As the client named it, for errors. */
function nameOf(request: SubscriptionRequest): object {
  if ('feed' in request) return { feed: request.feed };
  return 'environmentKey' in request
    ? { project_id: request.projectId, environment: request.environmentKey }
    : {
        project_id: request.projectId,
        environment: request.environmentId,
        environment_id: request.environmentId,
      };
}
