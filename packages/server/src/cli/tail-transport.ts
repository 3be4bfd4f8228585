import { WebSocket } from 'ws';
import type { NetworkOptions } from '@flagcast/client';
import type { TailOutput } from './tail-output.js';

/**
 * What the client reaches the network through: it takes nothing in while the output is blocked.
 * `onOpening` is called for each new socket; `onClose` with the server's word for ending one, before
 * the client hears of it.
 */
export function createTransport(options: {
  readonly output: TailOutput;
  readonly onOpening: () => void;
  readonly onClose: (code: number, reason: string) => void;
}): NetworkOptions {
  const { output, onOpening, onClose } = options;

  class TailSocket extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      onOpening();
      this.once('close', (code, reason) => onClose(code, reason.toString('utf8')));
      this.on('message', () => {
        if (output.draining === null || this.isPaused) return;
        this.pause();
        void output.draining.then(() => this.resume());
      });
    }

    override close(): void {
      // The answer to a goodbye would not be read.
      if (this.isPaused) this.terminate();
      else super.close();
    }
  }

  return {
    WebSocket: TailSocket,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (response.body === null) return response;
      const paced = new TransformStream<Uint8Array, Uint8Array>({
        transform: async (chunk, controller) => {
          await output.draining;
          controller.enqueue(chunk);
        },
      });
      return new Response(response.body.pipeThrough(paced), response);
    },
  };
}
