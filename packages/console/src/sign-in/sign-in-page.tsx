import { Center, Paper, Stack, Text, Title } from '@mantine/core';
import { Mark } from '../shell/icons.js';
import { useTexts } from '../texts/texts.js';
import { SignInForm } from './sign-in-form.js';

export function SignInPage() {
  const { t } = useTexts();
  return (
    <Center component="main" className="fc-sign-in">
      <Stack w="100%" maw={420} gap="lg">
        <Stack align="center" gap={6}>
          <Mark size={52} />
          <Title order={1}>Flagcast</Title>
          <Text c="dimmed" ta="center">
            {t.signIn.promise}
          </Text>
        </Stack>
        <Paper withBorder shadow="sm" p="lg" radius="lg">
          <SignInForm />
        </Paper>
      </Stack>
    </Center>
  );
}
