/**
 * The console that flagcast serves: its pages and their REST API.
 *
 * @module @flagcast/console
 */
import type { CreateConsole, DemoUser } from 'flagcast';
import { type ConsoleContext, type ConsoleFactory, OpenAPIHono } from 'flagcast/support';
import { builtPagesDir, createPagesApp } from './console-files.js';
import { owaspCost, type ScryptCost } from './password.js';
import { createRestApi } from './rest.js';
import { SignIn } from './sign-in.js';
import { SignInAttempts } from './sign-in-attempts.js';
import { DecisionPassword } from './writes/decisions.js';

export { hashPassword, type ScryptCost } from './password.js';

/** The options of `flagcastConsole`. */
export interface ConsoleOptions {
  /** The directory of the built pages; `null` serves the REST API alone. Default: the pages of this package. */
  readonly pagesDir?: string | null | undefined;
  /** Users with their passwords whom the sign-in page offers: only for demos. Default: none. */
  readonly demoUsers?: readonly DemoUser[] | undefined;
  /** The cost of new hashes of passwords; cheaper hashes are replaced at sign-in. Default: that of OWASP. */
  readonly passwordCost?: ScryptCost | undefined;
}

/** The console for the option `console` of `createFlagcast`. */
export function flagcastConsole({
  pagesDir = builtPagesDir,
  demoUsers = [],
  passwordCost = owaspCost,
}: ConsoleOptions = {}): CreateConsole {
  return (context: ConsoleContext) => {
    const { sessions, tokens, writes } = context;
    const attempts = new SignInAttempts();
    const pool = sessions.authorization;
    const writePool = writes ? sessions.writes : null;
    const signIn = new SignIn({ pool, writePool, tokens, attempts, passwordCost });
    const decisionPassword = new DecisionPassword(pool, attempts);
    const app: ReturnType<ConsoleFactory> = new OpenAPIHono();
    app.route('/', createRestApi({ ...context, signIn, decisionPassword, demoUsers }));
    app.route('/', createPagesApp(pagesDir));
    return app;
  };
}
