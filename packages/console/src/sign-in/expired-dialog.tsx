import '../shell/later-styles.js';
import { Button, Modal, Stack, Text } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import { useAppServices } from './app-services.js';
import { SignInForm } from './sign-in-form.js';

interface ExpiredDialogProps {
  readonly username: string;
  /** It cannot be closed. */
  readonly onClose?: undefined;
}

/** Renews an expired session over the page, which keeps its state. */
export default function ExpiredDialog({ username }: ExpiredDialogProps) {
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
