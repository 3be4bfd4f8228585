import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';

/** The server's HTTP response to a connection that it refuses. */
export class Refused extends Error {
  readonly status: number;
  /** Empty if it is not JSON. */
  readonly body: { readonly code?: string; readonly message?: string };
  readonly headers: IncomingHttpHeaders;

  private constructor(status: number, body: string, headers: IncomingHttpHeaders) {
    super(`refused with ${status}: ${body}`);
    this.status = status;
    this.body = parse(body);
    this.headers = headers;
  }

  static async from(response: IncomingMessage): Promise<Refused> {
    return new Refused(response.statusCode ?? 0, await text(response), response.headers);
  }
}

function parse(body: string): Refused['body'] {
  try {
    return JSON.parse(body) as Refused['body'];
  } catch {
    return {};
  }
}
