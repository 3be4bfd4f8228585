import type { PlainMessage } from '@flagcast/protocol';
import { WebSocketClient, type WebSocketClientOptions } from './web-socket-client.ts';

export interface PlainClientOptions extends WebSocketClientOptions<PlainMessage> {
  readonly token?: string;
}

/** A connection in the plain dialect. */
export class PlainClient extends WebSocketClient<PlainMessage> {
  /** Connects to `<wsUrl>?<query>`, or to a URL with a query; rejects with a Refused when the server answers with HTTP. */
  static async connect(
    wsUrl: string,
    query: Readonly<Record<string, string>>,
    { token, headers, ...options }: PlainClientOptions = {},
  ): Promise<PlainClient> {
    const authorization = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    const url = new URL(wsUrl);
    for (const [name, value] of Object.entries(query)) url.searchParams.append(name, value);
    return await new PlainClient(url.href, {
      ...options,
      headers: { ...authorization, ...headers },
    }).opened();
  }

  /** Resolves with the first past or future message that matches. */
  async received(fits: (message: PlainMessage) => boolean): Promise<PlainMessage> {
    return await this.message(fits);
  }
}
