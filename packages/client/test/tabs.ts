import { WebSocket } from 'ws';
import { vi } from 'vitest';
import { type Client, type ClientOptions, createClient, type WebSocketClass } from '../src/index.js';
import { type SharedTabsOptions, sharedTabs, type TabBus, type TabLocks } from '../src/tabs/index.js';

interface LockRequest {
  readonly tab: object;
  readonly grant: () => void;
}

/** The Web Locks of one browser: exclusive ones, granted in the order of the requests. */
class LockTable {
  readonly #queues = new Map<string, LockRequest[]>();

  /** As one tab sees them. */
  of(tab: object): TabLocks {
    return {
      request: async (name, { signal }, granted) =>
        await new Promise((resolve, reject) => {
          const request: LockRequest = {
            tab,
            grant: () => {
              const finish = (): void => this.#remove(name, request);
              Promise.resolve().then(granted).then(resolve, reject).finally(finish);
            },
          };
          signal.addEventListener('abort', () => {
            const queue = this.#queues.get(name) ?? [];
            if (!queue.includes(request) || queue[0] === request) return;
            this.#remove(name, request);
            reject(new DOMException('The request was aborted.', 'AbortError'));
          });
          const queue = this.#queues.get(name) ?? [];
          this.#queues.set(name, queue);
          queue.push(request);
          if (queue.length === 1) request.grant();
        }),
    };
  }

  /** What a browser does when a tab has ended. */
  releaseAll(tab: object): void {
    for (const [name, queue] of this.#queues) {
      for (const request of queue.filter((other) => other.tab === tab)) this.#remove(name, request);
    }
  }

  #remove(name: string, request: LockRequest): void {
    const queue = this.#queues.get(name) ?? [];
    const index = queue.indexOf(request);
    if (index < 0) return;
    queue.splice(index, 1);
    if (index === 0) queue[0]?.grant();
  }
}

export interface Tab {
  readonly client: Client;
  /** Ends the tab as when its process is killed: nothing of it runs any more, and it tells nobody. */
  readonly crash: () => void;
  /** Whether the tab hears nothing of the others, as when it is busy. */
  readonly setDeaf: (deaf: boolean) => void;
  /** What the page gets, e.g. `pagehide`. */
  readonly fire: (type: string) => void;
}

/** A browser whose tabs share locks and broadcast channels. */
export class TestBrowser {
  readonly #locks = new LockTable();
  readonly tabs: Tab[] = [];

  open(options: ClientOptions, tabs: Partial<SharedTabsOptions> = {}): Tab {
    const own = {};
    const life = { over: false, deaf: false };
    const sockets: WebSocket[] = [];
    const page = new EventTarget();
    const bus = class implements TabBus {
      onmessage: ((event: never) => unknown) | null = null;
      readonly #channel: BroadcastChannel;
      constructor(name: string) {
        this.#channel = new BroadcastChannel(name);
        this.#channel.onmessage = (event) => {
          if (!life.over && !life.deaf) this.onmessage?.(event as never);
        };
      }
      postMessage(message: unknown): void {
        if (!life.over) this.#channel.postMessage(message);
      }
      close(): void {
        this.#channel.close();
      }
    };
    const TabSocket = function (url: string, protocols: string[]) {
      if (life.over) return { close: () => undefined, send: () => undefined };
      const socket = new WebSocket(url, protocols);
      sockets.push(socket);
      return socket;
    } as unknown as WebSocketClass;
    vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
    const client = createClient({
      WebSocket: TabSocket,
      ...options,
      shareTabs: sharedTabs({
        userId: 'ada',
        locks: this.#locks.of(own),
        BroadcastChannel: bus,
        ...tabs,
      }),
    });
    vi.unstubAllGlobals();
    const tab: Tab = {
      client,
      crash: () => {
        life.over = true;
        for (const socket of sockets) {
          socket.onmessage = socket.onclose = null;
          socket.terminate();
        }
        this.#locks.releaseAll(own);
      },
      setDeaf: (deaf) => (life.deaf = deaf),
      fire: (type) => page.dispatchEvent(new Event(type)),
    };
    this.tabs.push(tab);
    return tab;
  }

  close(): void {
    for (const { client } of this.tabs) client.close();
  }
}
