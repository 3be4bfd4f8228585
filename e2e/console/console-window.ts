import type { ServerMessage } from '@flagcast/protocol';
import type { Browser, BrowserContext, ConsoleMessage, Page, WebSocketRoute } from 'playwright-core';

/** Something that the browser reported, and that nobody should ever have to see. */
export interface Problem {
  /** What Chromium wrote, or the error that nothing caught. */
  readonly text: string;
  /** What it is about: a request's address, or the script that wrote it; empty where unknown. */
  readonly url: string;
}

export interface WindowOptions {
  /** A small phone, 360 x 740, with a touch screen; default a window of 1280 x 900. */
  readonly phone?: boolean;
  /** Default `light`. */
  readonly theme?: 'light' | 'dark';
  /** A browser's language, such as `ru-RU`, or null for whatever the machine says. Default `en-GB`. */
  readonly language?: string | null;
  /** Whether the test can send messages to the page's WebSocket, as `injectMessage` does. Default false. */
  readonly injectsMessages?: boolean;
}

/** How long a person would wait for anything, in milliseconds: loaded machines included. */
const patienceMs = 15_000;

/** One person's browser: a context with its own storage, and its first tab. */
export class ConsoleWindow {
  readonly context: BrowserContext;
  readonly page: Page;
  readonly #problems: Problem[] = [];
  readonly #forgiven: ((problem: Problem) => boolean)[] = [];
  readonly #origin: string;
  #socket: WebSocketRoute | null = null;

  private constructor(context: BrowserContext, page: Page, origin: string) {
    this.context = context;
    this.page = page;
    this.#origin = origin;
  }

  /** An empty tab for the console at `origin`; with a token, its person is signed in when it gets there. */
  static async open(
    browser: Browser,
    origin: string,
    token: string | null,
    options: WindowOptions = {},
  ): Promise<ConsoleWindow> {
    const { phone = false, language = 'en-GB' } = options;
    const context = await browser.newContext({
      baseURL: origin,
      viewport: phone ? { width: 360, height: 740 } : { width: 1280, height: 900 },
      isMobile: phone,
      hasTouch: phone,
      colorScheme: options.theme ?? 'light',
      ...(language === null ? {} : { locale: language }),
      timezoneId: 'UTC',
    });
    context.setDefaultTimeout(patienceMs);
    if (token !== null) {
      // Only where nobody is signed in: a token that the page has renewed since is kept.
      await context.addInitScript(
        `if (sessionStorage.getItem('flagcast.token') === null) sessionStorage.setItem('flagcast.token', '${token}')`,
      );
    }
    const page = await context.newPage();
    const window = new ConsoleWindow(context, page, origin);
    if (options.injectsMessages === true) {
      await page.routeWebSocket('**/api/ws', (socket) => {
        socket.connectToServer();
        window.#socket = socket;
      });
    }
    window.#watch(page);
    return window;
  }

  /** Another tab of the same browser. */
  async openTab(path: string): Promise<Page> {
    const page = await this.context.newPage();
    this.#watch(page);
    await page.goto(path);
    return page;
  }

  /** Sends a message to the page, as the server would over its WebSocket. */
  injectMessage(message: ServerMessage): void {
    if (this.#socket === null)
      throw new Error('The page has no WebSocket: open the window with injectsMessages.');
    this.#socket.send(JSON.stringify(message));
  }

  /** What is expected to go wrong in this test: such problems do not count, whenever they come. */
  forgive(fits: (problem: Problem) => boolean): void {
    this.#forgiven.push(fits);
  }

  /** Chromium writes every refused request to its console: this one is a part of the test. */
  forgiveRefusal(status: number, pathPart: string): void {
    this.forgive(
      ({ text, url }) =>
        text.includes(`the server responded with a status of ${status}`) && url.includes(pathPart),
    );
  }

  /** The server or the network is away for a part of the test, or the server has just come back. */
  forgiveOutage(): void {
    const outage = /^Failed to load resource: net::ERR_|^WebSocket connection to 'ws:.*failed: /;
    this.forgive(({ text }) => outage.test(text));
    this.forgiveRefusal(503, '/api/');
  }

  /** Closes it; answers with what went wrong in it, a line each. */
  async close(): Promise<string[]> {
    await this.context.close();
    return this.#problems
      .filter((problem) => !this.#forgiven.some((fits) => fits(problem)))
      .map(({ text, url }) => `${text} (${url})`);
  }

  #watch(page: Page): void {
    page.on('console', (message: ConsoleMessage) => {
      if (message.type() !== 'error') return;
      this.#problems.push({ text: message.text(), url: message.location().url });
    });
    page.on('pageerror', (error) => {
      this.#problems.push({ text: error.stack ?? error.message, url: page.url() });
    });
    page.on('request', (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol === 'data:' || protocol === 'blob:' || origin === this.#origin) return;
      this.#problems.push({ text: 'A request to somebody else', url: request.url() });
    });
  }
}
