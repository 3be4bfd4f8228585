import { MantineProvider } from '@mantine/core';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { BrowserRouter } from 'react-router';
import { ApiError, isNotAvailable } from '../api/api.js';
import { LiveClient } from '../api/live.js';
import { forgetPerson } from '../api/queries.js';
import { ExpiredDialog } from '../sign-in/expired-dialog.js';
import { type Ground, GroundContext, useSession } from '../sign-in/session-context.js';
import { SignInPage } from '../sign-in/sign-in-page.js';
import { TextsProvider } from '../texts/texts.js';
import { MessagesProvider } from './messages.js';
import { Pages } from './pages.js';
import { theme } from './theme.js';

const triesAgain = 2;

function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // A refusal stays one; what was not reached may be reached the next time.
        retry: (failures, error) =>
          failures < triesAgain &&
          (!(error instanceof ApiError) ||
            error.status === 0 ||
            (error.status >= 500 && !isNotAvailable(error))),
      },
    },
  });
}

/** The console. */
export function App(ground: Ground) {
  const [queries] = useState(createQueryClient);
  return (
    <GroundContext value={ground}>
      <TextsProvider>
        <MantineProvider theme={theme} defaultColorScheme="auto">
          <QueryClientProvider client={queries}>
            <BrowserRouter basename={ground.basePath}>
              <MessagesProvider>
                <Entrance queries={queries} />
              </MessagesProvider>
            </BrowserRouter>
          </QueryClientProvider>
        </MantineProvider>
      </TextsProvider>
    </GroundContext>
  );
}

/** The page for whoever is signed in; the sign-in page keeps the address for afterwards. */
function Entrance({ queries }: { readonly queries: QueryClient }) {
  const session = useSession();
  const username = session.state === 'out' ? null : session.username;
  const token = session.state === 'in' ? session.token : null;
  useEffect(() => () => forgetPerson(queries), [queries, username]);
  useEffect(() => {
    // What was refused while the token had expired is asked again.
    if (token !== null) void queries.refetchQueries({ type: 'active', predicate: isFailed });
  }, [queries, token]);
  if (username === null) return <SignInPage />;
  return (
    <LiveClient key={username}>
      <Pages />
      <ExpiredDialog />
    </LiveClient>
  );
}

const isFailed = ({ state }: { readonly state: { readonly status: string } }): boolean =>
  state.status === 'error';
