import type { IncomingMessage } from 'node:http';
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { createApp } from './app.js';

type App = ReturnType<typeof createApp>;

/** Tells the requests for what `/api/openapi.json` describes from those for anything else, by their path alone. */
export function ownPathTest(app: App): (request: Pick<IncomingMessage, 'url'>) => boolean {
  const paths = pathsOf(app);
  const exact = new Set(paths.filter((path) => !path.includes('{')));
  const withParameters = paths
    .filter((path) => path.includes('{'))
    .map((path) => new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`));
  return ({ url = '' }) => {
    const [path = ''] = url.split(/[?#]/, 1);
    return exact.has(path) || withParameters.some((pattern) => pattern.test(path));
  };
}

function pathsOf({ openAPIRegistry }: Pick<OpenAPIHono, 'openAPIRegistry'>): string[] {
  const paths = openAPIRegistry.definitions.flatMap((definition) =>
    definition.type === 'route' ? [definition.route.path] : [],
  );
  return [...new Set(paths)];
}
