import 'reflect-metadata';
import type { Server } from 'node:http';
import { Controller, Get, type INestApplication, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WsAdapter } from '@nestjs/platform-ws';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { type AuthorizedChannel, createFlagcast } from 'flagcast';

/** Who is on which team; yours is wherever you keep it. */
const teams = new Map([
  ['ada', ['shop']],
  ['bob', ['billing']],
]);

function authorize(userIds: readonly string[]): Promise<AuthorizedChannel[]> {
  const channels = userIds.flatMap((userId) =>
    (teams.get(userId) ?? []).map((team) => ({
      userId,
      projectId: team,
      environmentId: `${team}-live`,
      environmentKey: 'prod',
    })),
  );
  return Promise.resolve(channels);
}

/** The host's own WebSockets. */
@WebSocketGateway({ path: '/chat' })
class ChatGateway {
  @SubscribeMessage('hello')
  hello(): { event: string; data: string } {
    return { event: 'hello', data: 'welcome' };
  }
}

@Controller()
class HomeController {
  @Get()
  home(): string {
    return 'The host';
  }
}

@Module({ controllers: [HomeController], providers: [ChatGateway] })
class AppModule {}

export async function createHost(
  databaseUrl: string,
  secret: string,
): Promise<{ app: INestApplication<Server>; close: () => Promise<void> }> {
  const flagcast = createFlagcast({ database: { url: databaseUrl }, auth: { secret, authorize } });

  const app = await NestFactory.create<INestApplication<Server>>(AppModule, { logger: ['error', 'warn'] });
  // Before anything that reads bodies.
  app.use(flagcast.middleware);
  app.useWebSocketAdapter(new WsAdapter(app));
  flagcast.attach(app.getHttpServer());
  void flagcast.ready();
  return {
    app,
    close: async () => {
      // First: the server closes when its connections have ended.
      await flagcast.close();
      await app.close();
    },
  };
}
