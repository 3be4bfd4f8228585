import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
}

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
}

/** Takes OTLP, as JSON over HTTP. */
export class Collector {
  readonly bodies: string[] = [];
  readonly #http: Server;

  constructor() {
    this.#http = createServer((request, response) => {
      void text(request).then((body) => {
        if (request.url === '/v1/traces') this.bodies.push(body);
        response.setHeader('Content-Type', 'application/json').end('{}');
      });
    });
  }

  async open(): Promise<string> {
    this.#http.listen(0, '127.0.0.1');
    await once(this.#http, 'listening');
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#http.closeAllConnections();
    this.#http.close();
  }

  get exports(): Export['resourceSpans'] {
    return this.bodies.flatMap((body) => (JSON.parse(body) as Export).resourceSpans);
  }

  get spans(): Span[] {
    return this.exports.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  }
}
