import {
  Alert,
  Avatar,
  Button,
  Divider,
  Loader,
  PasswordInput,
  Stack,
  Text,
  Textarea,
  TextInput,
} from '@mantine/core';
import { type ReactNode, type SubmitEvent, useState } from 'react';
import { useSignInMode } from '../api/queries.js';
import type { Mode, SignedIn } from '../api/types.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { describeError } from '../api/api.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { useAppServices } from './app-services.js';

interface SignInFormProps {
  /** Whose session has expired; without it any user can sign in. */
  readonly username?: string;
}

interface Problem {
  readonly at: 'demo' | 'form';
  readonly text: string;
}

/** Signs in as a user of the demo, with a password, or with a token of the host. */
export function SignInForm({ username }: SignInFormProps) {
  const { t } = useI18n();
  const { api, session } = useAppServices();
  const { data: mode, error: modeError, refetch } = useSignInMode();
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);

  const withPassword = async (at: Problem['at'], name: string, password: string): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      const { body } = await api.send<SignedIn>('POST', '/api/auth/login', { username: name, password });
      session.signIn(body.token);
    } catch (error) {
      setProblem({ at, text: describeError(error, t) });
    } finally {
      setBusy(false);
    }
  };
  const withToken = (token: string): void => {
    try {
      session.signIn(token);
    } catch {
      setProblem({ at: 'form', text: t.signIn.invalidToken });
    }
  };

  if (mode === undefined && modeError !== null)
    return <FailureAlert error={modeError} onRetry={() => void refetch()} />;
  if (mode === undefined) return <Loader aria-label={t.shell.loading} role="status" />;
  const formProblem = problem?.at === 'form' && <span role="alert">{problem.text}</span>;
  const users = mode.demo_people.filter((user) => username === undefined || user.username === username);
  return (
    <Stack>
      {users.length > 0 && (
        <>
          {username === undefined && (
            <div>
              <Text fw={600} size="sm" component="h2">
                {t.signIn.demo}
              </Text>
              <Text size="xs" c="dimmed">
                {t.signIn.demoHint}
              </Text>
            </div>
          )}
          <DemoUsers
            users={users}
            busy={busy}
            onChoose={(name) => void withPassword('demo', name, `${name}-demo`)}
          />
          {problem?.at === 'demo' && (
            <Alert color="red" role="alert">
              {problem.text}
            </Alert>
          )}
          <Divider label={t.signIn.or} labelPosition="center" />
        </>
      )}
      <CredentialsForm
        kind={mode.sign_in}
        username={username}
        busy={busy}
        problem={formProblem}
        onSubmit={(inputs) => {
          if (mode.sign_in === 'password')
            void withPassword('form', textOf(inputs, 'username'), textOf(inputs, 'password'));
          else withToken(textOf(inputs, 'token').trim());
        }}
      />
    </Stack>
  );
}

interface DemoUsersProps {
  readonly users: Mode['demo_people'];
  readonly busy: boolean;
  readonly onChoose: (username: string) => void;
}

function DemoUsers({ users, busy, onChoose }: DemoUsersProps) {
  const { t } = useI18n();
  const demoUsers: Readonly<Record<string, string>> = t.signIn.demoUsers;
  return (
    <Stack gap={6}>
      {users.map(({ username: name, about }) => (
        <Button
          key={name}
          variant="default"
          h="auto"
          py={6}
          justify="flex-start"
          ta="left"
          styles={{ label: { whiteSpace: 'normal' } }}
          leftSection={<Avatar name={name} color="initials" size={32} />}
          disabled={busy}
          onClick={() => onChoose(name)}
        >
          <span>
            <Text fw={600} size="sm" component="span" display="block">
              {name}
            </Text>
            <Text size="xs" c="dimmed" component="span" display="block">
              {Object.hasOwn(demoUsers, name) ? demoUsers[name] : visible(about)}
            </Text>
          </span>
        </Button>
      ))}
    </Stack>
  );
}

interface CredentialsFormProps {
  /** What the server asks for. */
  readonly kind: Mode['sign_in'];
  readonly username: string | undefined;
  readonly busy: boolean;
  /** Shown at the last field. */
  readonly problem: ReactNode;
  /** Called with the inputs by their names. */
  readonly onSubmit: (inputs: FormData) => void;
}

function CredentialsForm({ kind, username, busy, problem, onSubmit }: CredentialsFormProps) {
  const { t } = useI18n();
  const submit = (event: SubmitEvent<HTMLFormElement>): void => {
    event.preventDefault();
    onSubmit(new FormData(event.currentTarget));
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="sm">
        {kind === 'password' ? (
          <>
            <TextInput
              name="username"
              label={t.signIn.username}
              autoComplete="username"
              defaultValue={username}
              readOnly={username !== undefined}
              required
              withAsterisk={false}
            />
            <PasswordInput
              name="password"
              label={t.signIn.password}
              error={problem}
              autoComplete="current-password"
              visibilityToggleButtonProps={{ 'aria-label': t.signIn.showPassword }}
              required
              withAsterisk={false}
            />
          </>
        ) : (
          <Textarea
            name="token"
            label={t.signIn.token}
            description={t.signIn.tokenHint}
            error={problem}
            autoComplete="off"
            spellCheck={false}
            rows={4}
            onKeyDown={(event) => {
              // A token has no line breaks.
              if (event.key !== 'Enter') return;
              event.preventDefault();
              event.currentTarget.form?.requestSubmit();
            }}
            required
            withAsterisk={false}
          />
        )}
        <Button type="submit" loading={busy} fullWidth>
          {t.signIn.submit}
        </Button>
      </Stack>
    </form>
  );
}

function textOf(form: FormData, name: string): string {
  const value = form.get(name);
  return typeof value === 'string' ? value : '';
}
