import { Button, Modal, Stack, Text } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import { useAppServices, useSession } from './app-services.js';
import { SignInForm } from './sign-in-form.js';

/** Renews an expired session over the page, which keeps its state. */
export function ExpiredDialog() {
  const { t } = useI18n();
  const { session } = useAppServices();
  const state = useSession();
  if (state.state !== 'expired') return null;
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
        <SignInForm username={state.username} />
        <Button variant="subtle" color="gray" onClick={session.signOut}>
          {t.shell.signOut}
        </Button>
      </Stack>
    </Modal>
  );
}
