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
  UnstyledButton,
} from '@mantine/core';
import { type ReactNode, type SubmitEvent, useState } from 'react';
import { useSignInMode } from '../api/queries.js';
import type { Mode, SignedIn } from '../api/types.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { describeError } from '../shell/notifications.js';
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
      {mode.sign_in === 'password' ? (
        <PasswordForm
          username={username}
          busy={busy}
          problem={formProblem}
          onSubmit={async (name, password) => await withPassword('form', name, password)}
        />
      ) : (
        <TokenForm problem={formProblem} onSubmit={withToken} />
      )}
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
        <UnstyledButton key={name} className="fc-demo-user" disabled={busy} onClick={() => onChoose(name)}>
          <Avatar name={name} color="initials" size={32} />
          <span>
            <Text fw={600} size="sm" component="span" display="block">
              {name}
            </Text>
            <Text size="xs" c="dimmed" component="span" display="block">
              {Object.hasOwn(demoUsers, name) ? demoUsers[name] : visible(about)}
            </Text>
          </span>
        </UnstyledButton>
      ))}
    </Stack>
  );
}

interface FormProps {
  /** Shown at its field. */
  readonly problem: ReactNode;
}

interface PasswordFormProps extends FormProps {
  readonly username: string | undefined;
  readonly busy: boolean;
  readonly onSubmit: (username: string, password: string) => Promise<void>;
}

function PasswordForm({ username, busy, problem, onSubmit }: PasswordFormProps) {
  const { t } = useI18n();
  const submit = (event: SubmitEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    void onSubmit(textOf(form, 'username'), textOf(form, 'password'));
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="sm">
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
        <Button type="submit" loading={busy} fullWidth>
          {t.signIn.submit}
        </Button>
      </Stack>
    </form>
  );
}

function TokenForm({ problem, onSubmit }: FormProps & { readonly onSubmit: (token: string) => void }) {
  const { t } = useI18n();
  const submit = (event: SubmitEvent<HTMLFormElement>): void => {
    event.preventDefault();
    onSubmit(textOf(new FormData(event.currentTarget), 'token').trim());
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="sm">
        <Textarea
          name="token"
          label={t.signIn.token}
          description={t.signIn.tokenHint}
          error={problem}
          autoComplete="off"
          spellCheck={false}
          rows={4}
          required
          withAsterisk={false}
        />
        <Button type="submit" fullWidth>
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
