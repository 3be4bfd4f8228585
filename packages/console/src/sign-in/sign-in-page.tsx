import '../shell/later-styles.js';
import { Button, Center, Modal, Paper, SegmentedControl, Stack, Text, Title } from '@mantine/core';
import { Mark } from '../shell/icons.js';
import { languages, useI18n } from '../i18n/i18n.js';
import { useAppServices } from './app-services.js';
import { SignInForm } from './sign-in-form.js';

/** Signs a user in. The address stays. */
export default function SignInPage() {
  const { t, language, setLanguage } = useI18n();
  return (
    <Center component="main" className="fc-sign-in">
      <Stack w="100%" maw={420} gap="md">
        <Stack align="center" gap={6}>
          <title>{`${t.signIn.title} · Flagcast`}</title>
          <Mark size={52} />
          <Title order={1}>Flagcast</Title>
          <Text c="dimmed" ta="center" style={{ textWrap: 'balance' }}>
            {t.signIn.tagline}
          </Text>
        </Stack>
        <Paper withBorder shadow="sm" p="lg" radius="lg">
          <SignInForm />
        </Paper>
        <SegmentedControl
          size="xs"
          data={languages.map(({ code, name }) => ({ value: code, label: name }))}
          value={language}
          onChange={setLanguage}
          aria-label={t.shell.language}
          pos="absolute"
          top={14}
          right={14}
        />
      </Stack>
    </Center>
  );
}

interface ExpiredDialogProps {
  readonly username: string;
  /** It cannot be closed. */
  readonly onClose?: undefined;
}

/** Renews an expired session over the page, which keeps its state. */
export function ExpiredDialog({ username }: ExpiredDialogProps) {
  const { t } = useI18n();
  const { session } = useAppServices();
  return (
    <Modal
      opened
      onClose={() => undefined}
      withCloseButton={false}
      closeOnEscape={false}
      closeOnClickOutside={false}
      title={t.signIn.expired}
      centered
    >
      <Stack>
        <Text size="sm">{t.signIn.expiredHint}</Text>
        <SignInForm username={username} />
        <Button variant="subtle" color="gray" onClick={session.signOut}>
          {t.shell.signOut}
        </Button>
      </Stack>
    </Modal>
  );
}
